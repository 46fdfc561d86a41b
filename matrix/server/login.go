package server

import "orrery/matrix/api"

// Term is a document that people accept who make an account.
type Term struct {
	ID       string `yaml:"id"`
	Version  string `yaml:"version"`
	Language string `yaml:"language"`
	Title    string `yaml:"title"`
	URL      string `yaml:"url"`
}

func (c *Config) policies() []api.Policy {
	var all []api.Policy
	for _, t := range c.Terms {
		all = append(all, api.Policy(t))
	}
	return all
}

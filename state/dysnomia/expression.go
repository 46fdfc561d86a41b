package dysnomia

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
)

// WriteExpression writes what is known of this machine as a Nix expression: its properties, where there is such a
// file, and its containers.
func (c Catalog) WriteExpression(w io.Writer, propertiesFile string) error {
	properties, err := ReadSettings(propertiesFile)
	described := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var b strings.Builder
	b.WriteString("{\n")
	if described {
		b.WriteString("  properties = {\n")
		nixSettings(&b, "    ", properties)
		b.WriteString("  };\n")
	}
	b.WriteString("  containers = {\n")
	all, err := c.ContainerNames()
	if err != nil {
		return err
	}
	for _, name := range all {
		settings, err := c.Container(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "    %s = {\n", nixName(name))
		nixSettings(&b, "      ", settings.without("type"))
		b.WriteString("    };\n")
	}
	b.WriteString("  };\n")
	for _, s := range properties {
		if s.Name == "system" { // has a meaning of its own
			nixSettings(&b, "  ", Settings{s})
		}
	}
	b.WriteString("}")
	_, err = io.WriteString(w, b.String())
	return err
}

func (s Settings) without(name string) Settings {
	var rest Settings
	for _, one := range s {
		if one.Name != name {
			rest = append(rest, one)
		}
	}
	return rest
}

func nixSettings(b *strings.Builder, indent string, settings Settings) {
	for _, s := range settings {
		fmt.Fprintf(b, "%s%s = ", indent, nixString(s.Name))
		if s.Array {
			b.WriteString("[ ")
			for _, value := range s.Values {
				b.WriteString(nixString(value) + " ")
			}
			b.WriteString("];\n")
			continue
		}
		b.WriteString(nixString(s.Values[0]) + ";\n")
	}
}

var nixEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", `\${`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

func nixString(s string) string { return `"` + nixEscapes.Replace(s) + `"` }

var nixIdentifier = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_'-]*$`)

func nixName(s string) string {
	if nixIdentifier.MatchString(s) {
		return s
	}
	return nixString(s)
}

var dotEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// WriteDot draws the containers and the components that can be deployed to them.
func (c Catalog) WriteDot(w io.Writer) error {
	all, err := c.ContainerNames()
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("digraph G {\n")
	for _, name := range all {
		available, err := c.Available(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "  subgraph %s {\n    style=filled;\n    label=\"%s\";\n    fillcolor=grey\n    node [style=filled,fillcolor=white,color=black];\n",
			dotCluster(name), dotEscapes.Replace(name))
		for _, a := range available {
			fmt.Fprintf(&b, "    \"%s\" [ label = \"%s\" ];\n", dotEscapes.Replace(a.String()), dotEscapes.Replace(a.Component))
		}
		b.WriteString("  }\n")
	}
	b.WriteString("}\n")
	_, err = io.WriteString(w, b.String())
	return err
}

func dotCluster(name string) string {
	id := "cluster_" + strings.ReplaceAll(name, "-", "_")
	if nixIdentifier.MatchString(id) {
		return id
	}
	return `"` + dotEscapes.Replace(id) + `"`
}

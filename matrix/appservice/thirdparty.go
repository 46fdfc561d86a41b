package appservice

import (
	"encoding/json"
	"strings"
)

// Protocol is what a service says of a network, as JSON by name (clause application service API, third-party networks).
type Protocol map[string]json.RawMessage

// ReadProtocol reads a service's answer, and gives each of the network's instances the id by which its rooms are found; false says that it is no protocol.
func ReadProtocol(s *Service, text []byte) (Protocol, bool) {
	var p Protocol
	if json.Unmarshal(text, &p) != nil || p == nil {
		return nil, false
	}
	var instances, named []Protocol
	if raw, ok := p["instances"]; ok && json.Unmarshal(raw, &instances) != nil {
		return nil, false
	}
	for _, i := range instances {
		var network string
		if i == nil || json.Unmarshal(i["network_id"], &network) != nil || network == "" {
			continue
		}
		i["instance_id"], _ = json.Marshal(InstanceID(s.ID, network))
		named = append(named, i)
	}
	return p.with(named), true
}

func (p Protocol) with(instances []Protocol) Protocol {
	if instances == nil {
		instances = []Protocol{}
	}
	p["instances"], _ = json.Marshal(instances)
	return p
}

// Merge is a network of which two services know: as the first has it, with the instances of both.
func (p Protocol) Merge(other Protocol) Protocol {
	var mine, theirs []Protocol
	_ = json.Unmarshal(p["instances"], &mine)
	_ = json.Unmarshal(other["instances"], &theirs)
	return p.with(append(mine, theirs...))
}

// InstanceID is the id of a service's network on this server.
func InstanceID(service, network string) string { return service + "|" + network }

// CutInstance is the service and its network of such an id, and whether it is one. Services' ids may have the sign that is between them.
func (s *Services) CutInstance(id string) (service, network string, ok bool) {
	for _, one := range s.All() {
		if network, ok = strings.CutPrefix(id, one.ID+"|"); ok && network != "" {
			return one.ID, network, true
		}
	}
	return "", "", false
}

// Objects are the elements of a service's answer that are objects with these fields; nothing of what is no list.
func Objects(text []byte, fields ...string) (all []json.RawMessage) {
	var list []json.RawMessage
	_ = json.Unmarshal(text, &list)
	for _, one := range list {
		var object map[string]json.RawMessage
		whole := json.Unmarshal(one, &object) == nil
		for _, f := range fields {
			_, has := object[f]
			whole = whole && has
		}
		if whole {
			all = append(all, one)
		}
	}
	return all
}

package appservice

import "encoding/json"

// How much a transaction has at the most; one event is always taken.
const (
	MaxEvents = 100
	MaxBytes  = 1 << 20
)

// Transaction is what is sent to a service at once (clause application service API, PUT /_matrix/app/v1/transactions/{txnId}).
type Transaction struct {
	Events    []json.RawMessage
	Ephemeral []json.RawMessage
	ToDevice  []json.RawMessage
	Lists     DeviceLists
	Counts    map[string]map[string]map[string]int // of one-time keys, by user, device and algorithm
	Fallbacks map[string]map[string][]string       // algorithms of fallback keys that nobody got, by user and device
}

// DeviceLists are the users whose devices changed, and those who share no room any more.
type DeviceLists struct {
	Changed []string `json:"changed,omitempty"`
	Left    []string `json:"left,omitempty"`
}

// Empty says whether there is nothing to send.
func (t *Transaction) Empty() bool {
	return len(t.Events)+len(t.Ephemeral)+len(t.ToDevice)+len(t.Lists.Changed)+len(t.Lists.Left)+len(t.Counts)+len(t.Fallbacks) == 0
}

// Body is the transaction as a service gets it. What the specification does not have yet goes by the names of the proposals (MSC3202, MSC4203).
func (t *Transaction) Body(s *Service) ([]byte, error) {
	body := map[string]any{"events": t.Events}
	if t.Events == nil {
		body["events"] = []json.RawMessage{}
	}
	if len(t.Ephemeral) > 0 && s.Ephemeral {
		name := "ephemeral"
		if s.Proposed {
			name = "de.sorunome.msc2409.ephemeral"
		}
		body[name] = t.Ephemeral
	}
	if s.Encryption {
		for name, part := range map[string]struct {
			value any
			there bool
		}{
			"de.sorunome.msc2409.to_device":                       {t.ToDevice, len(t.ToDevice) > 0},
			"org.matrix.msc3202.device_lists":                     {t.Lists, len(t.Lists.Changed)+len(t.Lists.Left) > 0},
			"org.matrix.msc3202.device_one_time_keys_count":       {t.Counts, len(t.Counts) > 0},
			"org.matrix.msc3202.device_unused_fallback_key_types": {t.Fallbacks, len(t.Fallbacks) > 0},
		} {
			if part.there {
				body[name] = part.value
			}
		}
	}
	return json.Marshal(body)
}

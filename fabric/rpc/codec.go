package rpc

import (
	"encoding/json"

	"connectrpc.com/connect"
)

// jsonCodec carries plain Go structs. Unknown fields are ignored, so that a newer node may add some.
type jsonCodec struct{}

var _ connect.Codec = jsonCodec{}

// Name is the subtype of the content type: application/json.
func (jsonCodec) Name() string { return "json" }

// Marshal encodes a message.
func (jsonCodec) Marshal(message any) ([]byte, error) { return json.Marshal(message) }

// Unmarshal decodes a message; no bytes are the zero value, which spares curl an empty object.
func (jsonCodec) Unmarshal(content []byte, message any) error {
	if len(content) == 0 {
		return nil
	}
	return json.Unmarshal(content, message)
}

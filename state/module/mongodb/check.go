package mongodb

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"orrery/state"
)

// maxDepth is how deep documents may lie in each other; MongoDB takes 100.
const maxDepth = 200

// check finds what is malformed in a document from outside. Whoever looks into a document has checked it.
func check(doc []byte) error { return checkDocument(doc, 0) }

func checkDocument(doc []byte, depth int) error {
	if len(doc) < 5 || int64(length(doc)) != int64(len(doc)) || doc[len(doc)-1] != 0 {
		return fmt.Errorf("%w: a document has a wrong length", state.ErrCorrupt)
	}
	if depth > maxDepth {
		return fmt.Errorf("%w: a document is nested more than %d deep", state.ErrCorrupt, maxDepth)
	}
	rest := doc[4 : len(doc)-1]
	for len(rest) > 0 {
		e, after, ok := bsoncore.ReadElement(rest)
		if !ok {
			return fmt.Errorf("%w: a document has a malformed element", state.ErrCorrupt)
		}
		v, err := e.ValueErr()
		if err == nil {
			_, err = e.KeyErr()
		}
		if err != nil {
			return fmt.Errorf("%w: a document has a malformed element: %v", state.ErrCorrupt, err)
		}
		if err := checkValue(v, depth); err != nil {
			return err
		}
		rest = after
	}
	return nil
}

func checkValue(v bsoncore.Value, depth int) error {
	switch v.Type {
	case bsoncore.TypeEmbeddedDocument, bsoncore.TypeArray:
		return checkDocument(v.Data, depth+1)
	case bsoncore.TypeCodeWithScope:
		_, scope, ok := v.CodeWithScopeOK()
		if !ok {
			return fmt.Errorf("%w: a document has malformed code", state.ErrCorrupt)
		}
		return checkDocument(scope, depth+1)
	case bsoncore.TypeDouble, bsoncore.TypeString, bsoncore.TypeBinary, bsoncore.TypeUndefined, bsoncore.TypeObjectID, bsoncore.TypeBoolean,
		bsoncore.TypeDateTime, bsoncore.TypeNull, bsoncore.TypeRegex, bsoncore.TypeDBPointer, bsoncore.TypeJavaScript, bsoncore.TypeSymbol,
		bsoncore.TypeInt32, bsoncore.TypeTimestamp, bsoncore.TypeInt64, bsoncore.TypeDecimal128, bsoncore.TypeMinKey, bsoncore.TypeMaxKey:
		if err := v.Validate(); err != nil {
			return fmt.Errorf("%w: a document has a malformed value: %v", state.ErrCorrupt, err)
		}
		return checkLength(v)
	}
	return fmt.Errorf("%w: a document has a value of the unknown type %#x", state.ErrCorrupt, byte(v.Type))
}

// checkLength finds strings and binaries that are shorter than they can be, or whose end is not there.
func checkLength(v bsoncore.Value) error {
	n := len(v.Data)
	isText := v.Type == bsoncore.TypeString || v.Type == bsoncore.TypeSymbol || v.Type == bsoncore.TypeJavaScript
	if isText && (n < 5 || int(length(v.Data)) != n-4 || v.Data[n-1] != 0) ||
		v.Type == bsoncore.TypeBinary && (n < 5 || int(length(v.Data)) != n-5) {
		return fmt.Errorf("%w: a document has a value of a wrong length", state.ErrCorrupt)
	}
	return nil
}

// identity is a checked document's _id.
func identity(doc []byte) (bsoncore.Value, error) {
	v, err := bsoncore.Document(doc).LookupErr("_id")
	if err != nil {
		return v, fmt.Errorf("%w: a document has no _id", state.ErrCorrupt)
	}
	return v, nil
}

package manifest

import (
	"bytes"
	"encoding/json"
	"errors"

	kjson "k8s.io/apimachinery/pkg/util/json"
)

// value is a JSON value as it stands in a longer text, from start on.
type value struct {
	text  []byte
	start int
}

// nextValue gives the next value of dec, and io.EOF where there is none.
func nextValue(dec *json.Decoder) (value, error) {
	var text json.RawMessage
	if err := dec.Decode(&text); err != nil {
		return value{}, err
	}
	return value{text, int(dec.InputOffset()) - len(text)}, nil
}

var (
	errNotObject = errors.New("not an object")
	errNotArray  = errors.New("not an array")
)

// readHead reads the head of an object without decoding the rest, which it leaves
// where its lines can be counted.
func readHead(data []byte) (headDoc, error) {
	var head headDoc
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return head, errNotObject
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return head, err
		}
		v, err := nextValue(dec)
		if err != nil {
			return head, err
		}
		switch key {
		case "items":
			if head.Items = v; string(v.text) == "null" {
				head.Items = value{}
			}
		case "kind":
			err = kjson.Unmarshal(v.text, &head.Kind)
		case "apiVersion":
			err = kjson.Unmarshal(v.text, &head.APIVersion)
		}
		if err != nil {
			return head, err
		}
	}
	return head, nil
}

// elements gives the elements of an array.
func elements(array []byte) ([]value, error) {
	dec := json.NewDecoder(bytes.NewReader(array))
	if token, err := dec.Token(); err != nil || token != json.Delim('[') {
		return nil, errNotArray
	}
	var items []value
	for dec.More() {
		item, err := nextValue(dec)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

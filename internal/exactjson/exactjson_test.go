package exactjson

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestObject(t *testing.T) {
	for data, want := range map[string]string{
		`{"host":"a","max":7}`:                                                         "",
		" {\"max\":7,\n\"host\":\"a\"} ":                                               "",
		`{"h\u006fst":"a","max":7}`:                                                    "",
		`{"host":"a","max":7,"Host":"b","HOST":"c","MAX":"x"}`:                         "",
		`{"ho\u017ft":"b","host":"a","max":7}`:                                         "",
		`{"host":"a","max":7,"more":{"host":"b","list":[{"a":1},{"a":"host"},1e999]}}`: "",

		`{"host":"a","max":7,"a:b":"\\\":,\":"}`: "",

		`{"host":"a","host":"b"}`:             "host: member comes twice",
		`{"host":"\\\":\\","host":"a:b"}`:     "host: member comes twice",
		`{"host":"a","host":null}`:            "host: member comes twice",
		`{"host":"a","h\u006fst":"b"}`:        "host: member comes twice",
		`{"other":1,"other":1}`:               "other: member comes twice",
		`{"more":[[{"a":[1],"b":{},"a":2}]]}`: "a: member comes twice",
		`{"host":7}`:                          "host: a number where a string belongs",
		`{"host":{}}`:                         "host: an object where a string belongs",
		`{"max":"7"}`:                         "max: a string does not belong here",
		`[]`:                                  "an array where an object belongs",
		`null`:                                "null where an object belongs",
		`"host"`:                              "a string where an object belongs",
		`true`:                                "a boolean where an object belongs",
		`7`:                                   "a number where an object belongs",
		``:                                    "unexpected end of JSON input",
		`{} {}`:                               "after top-level value",
		`{"a":` + strings.Repeat("[", 20000):  "exceeded max depth",
	} {
		var host string
		var most int
		err := Object([]byte(data), Fields{"host": &host, "max": &most})
		if want != "" {
			require.ErrorContains(t, err, want, "%.80s", data)
			continue
		}
		require.NoError(t, err, data)
		require.Equal(t, "a", host, data)
		require.Equal(t, 7, most, data)
	}
}

// For any input, Object accepts only objects, and its values are the values that json.Unmarshal
// stores in a map.
func FuzzObject(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b json.RawMessage
		err := Object(data, Fields{"a": &a, "b": &b})
		var m map[string]json.RawMessage
		mapErr := json.Unmarshal(data, &m)
		if err != nil {
			return
		}
		if mapErr != nil || m == nil {
			t.Fatalf("%q is no object: %v", data, mapErr)
		}
		if string(m["a"]) != string(a) || string(m["b"]) != string(b) {
			t.Fatalf("%q: a %q and b %q, want %q and %q", data, a, b, m["a"], m["b"])
		}
		twice := append(append([]byte(`{"x":1,"more":`), data...), `,"x":2}`...)
		if Object(twice, Fields{}) == nil {
			t.Fatalf("%q: a member that comes twice is accepted", twice)
		}
	})
}

package edge

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/routes"
)

// TestSameBackendComparesEachField: another value of any field of a Route, except Position, makes
// sameBackend return false.
func TestSameBackendComparesEachField(t *testing.T) {
	a := routes.Route{Host: "a.example", Backends: make([]routes.Backend, 1), Prefer: make([]routes.Preference, 1), Check: &routes.Check{}}
	same := a
	same.Position.Line = 7
	require.True(t, sameBackend(&a, &same))
	typ := reflect.TypeFor[routes.Route]()
	for i := range typ.NumField() {
		if typ.Field(i).Name == "Position" {
			continue
		}
		b := a
		switch field := reflect.ValueOf(&b).Elem().Field(i); field.Kind() {
		case reflect.String:
			field.SetString("other")
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		case reflect.Pointer:
			field.Set(reflect.New(field.Type().Elem()))
		case reflect.Struct:
			last := field
			for last.Kind() == reflect.Struct {
				last = last.Field(last.NumField() - 1)
			}
			last.SetInt(1)
		default:
			require.FailNow(t, "a field of another kind", typ.Field(i).Name)
		}
		require.False(t, sameBackend(&a, &b), typ.Field(i).Name)
	}
}

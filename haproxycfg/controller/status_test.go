package controller

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadyOnceSomethingIsInForce: what is refused is compared with what is on disk. That
// is not in force if its reload has failed.
func TestReadyOnceSomethingIsInForce(t *testing.T) {
	no := errors.New("no")
	tests := []struct {
		name     string
		outcomes []Outcome
		ready    bool
	}{
		{"nothing yet", nil, false},
		{"written", []Outcome{Written}, true},
		{"there already", []Outcome{Unchanged}, true},
		{"another one was there already", []Outcome{Refused}, true},
		{"not reloaded", []Outcome{Failed}, false},
		{"not reloaded, and then another", []Outcome{Failed, Refused, Refused}, false},
		{"reloaded at last", []Outcome{Failed, Refused, Written}, true},
		{"a later one is not reloaded", []Outcome{Written, Failed, Refused}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &status{now: Status{Leading: true}}
			for _, o := range tt.outcomes {
				var err error
				if o == Failed || o == Refused {
					err = no
				}
				s.applied(Attempt{Outcome: o, Err: err})
			}
			if tt.ready {
				require.NoError(t, s.get().Ready())
			} else {
				require.ErrorContains(t, s.get().Ready(), "no configuration is in force")
			}
		})
	}
}

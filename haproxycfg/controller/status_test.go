package controller

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadyWhenAConfigurationIsInForce: after a refused change, the configuration on disk counts as
// in force. There is one exception: an attempt has failed, and no attempt has succeeded since the
// start. Then nobody knows which configuration HAProxy runs.
func TestReadyWhenAConfigurationIsInForce(t *testing.T) {
	no := errors.New("no")
	tests := []struct {
		name     string
		outcomes []Outcome
		ready    bool
	}{
		{"no attempt yet", nil, false},
		{"written", []Outcome{Written}, true},
		{"unchanged", []Outcome{Unchanged}, true},
		{"refused", []Outcome{Refused}, true},
		{"failed", []Outcome{Failed}, false},
		{"failed, then refused", []Outcome{Failed, Refused, Refused}, false},
		{"written after a failure", []Outcome{Failed, Refused, Written}, true},
		{"a later attempt fails", []Outcome{Written, Failed, Refused}, true},
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

package controller

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadyWhenAConfigurationIsInForce: a refused change is compared with the configuration on
// disk. That configuration is in force, unless an attempt before has failed.
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

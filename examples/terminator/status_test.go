package main

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
		outcomes []outcome
		ready    bool
	}{
		{"nothing yet", nil, false},
		{"written", []outcome{written}, true},
		{"there already", []outcome{unchanged}, true},
		{"another one was there already", []outcome{refused}, true},
		{"not reloaded", []outcome{failed}, false},
		{"not reloaded, and then another", []outcome{failed, refused, refused}, false},
		{"reloaded at last", []outcome{failed, refused, written}, true},
		{"a later one is not reloaded", []outcome{written, failed, refused}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &status{leading: true}
			for _, o := range tt.outcomes {
				var err error
				if o == failed || o == refused {
					err = no
				}
				s.applied(o, err)
			}
			if tt.ready {
				require.NoError(t, s.ready())
			} else {
				require.ErrorContains(t, s.ready(), "no configuration is in force")
			}
		})
	}
}

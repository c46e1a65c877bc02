package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
)

// The progress of a drain is the sum of what all terminators say, or the error of one that does not
// answer.
func TestProgressOfADrain(t *testing.T) {
	var text string
	set := func(format string, args ...any) { text = fmt.Sprintf(format, args...) }
	refused := errors.New("connection refused")
	answers := []struct {
		traffic keeper.Traffic
		err     error
	}{{}, {}}
	source := func(i int) keeper.TrafficSource {
		return func(context.Context, []netip.Addr) (keeper.Traffic, error) { return answers[i].traffic, answers[i].err }
	}
	sources := shown([]keeper.TrafficSource{source(0), source(1)}, "worker-7", set)
	ask := func() string {
		for i, s := range sources {
			got, err := s(t.Context(), nil)
			require.Equal(t, answers[i].traffic, got)
			require.Equal(t, answers[i].err, err)
		}
		return text
	}
	answers[0].traffic, answers[1].traffic = keeper.Traffic{Accepting: 2, Sessions: 9}, keeper.Traffic{Accepting: 1, Sessions: 5}
	require.Equal(t, "worker-7: 3 servers get new requests, 14 requests left", ask())
	answers[0].err = refused
	require.Equal(t, "worker-7: connection refused", ask())
	answers[0].traffic, answers[0].err = keeper.Traffic{Sessions: 4}, nil
	answers[1].traffic = keeper.Traffic{}
	require.Equal(t, "worker-7: 0 servers get new requests, 4 requests left", ask())
}

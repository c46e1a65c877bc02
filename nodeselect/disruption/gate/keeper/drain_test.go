package keeper_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
)

var drained = []netip.Addr{netip.MustParseAddr("10.0.0.1")}

func TestWaitDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		// One HAProxy drains the node after 3 s, and another one has requests for 5 s.
		sources := []keeper.TrafficSource{
			func(context.Context, []netip.Addr) (keeper.Traffic, error) {
				if time.Since(begin) < time.Second {
					return keeper.Traffic{}, errors.New("no answer")
				}
				if time.Since(begin) < 3*time.Second {
					return keeper.Traffic{Source: "one", Servers: 2, Accepting: 1}, nil
				}
				return keeper.Traffic{Source: "one", Servers: 2}, nil
			},
			func(context.Context, []netip.Addr) (keeper.Traffic, error) {
				if time.Since(begin) < 5*time.Second {
					return keeper.Traffic{Source: "two", Servers: 2, Sessions: 4, OldWorkers: 1}, nil
				}
				return keeper.Traffic{Source: "two", Servers: 2, Sessions: 3}, nil
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		_, err := keeper.WaitDrained(ctx, drained, sources, 3)
		require.ErrorContains(t, err, "not drained: 0 servers get new requests, and there are 4 requests")
		all, err := keeper.WaitDrained(t.Context(), drained, sources, 3)
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.Equal(t, 5*time.Second, time.Since(begin).Truncate(time.Second))
		_, err = keeper.WaitDrained(t.Context(), nil, sources, 3)
		require.Error(t, err)
	})
}

func TestTrafficURL(t *testing.T) {
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/traffic?addr=10.0.0.1" {
			t.Errorf("request for %s", r.URL)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"servers":4,"accepting":1,"sessions":2,"oldWorkers":1}`))
	}))
	defer srv.Close()
	source, err := keeper.TrafficURL(srv.URL+"/report.json", nil)
	require.NoError(t, err)
	got, err := source(t.Context(), drained)
	require.NoError(t, err)
	require.Equal(t, srv.URL+": 1 of 4 servers get new requests, 2 requests, 1 old workers", got.String())
	status = http.StatusServiceUnavailable
	_, err = source(t.Context(), drained)
	require.ErrorContains(t, err, "503")
	_, err = keeper.TrafficURL(srv.URL+"/", nil)
	require.ErrorContains(t, err, "does not end in /report.json")
}

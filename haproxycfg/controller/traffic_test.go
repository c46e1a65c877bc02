package controller_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

func TestTraffic(t *testing.T) {
	current := []runtimeapi.Stat{
		{Proxy: "b", Server: "BACKEND", Sessions: 9},
		{Proxy: "b", Server: "a", Addr: "10.0.0.1:30080", Status: "UP", Sessions: 2},
		{Proxy: "c", Server: "a", Addr: "10.0.0.1:30081", Status: "DRAIN (agent)", Sessions: 1},
		{Proxy: "d", Server: "a", Addr: "10.0.0.1:30082", Status: "UP 1/3"},
		{Proxy: "e", Server: "a", Addr: "10.0.0.1:30083", Status: "no check"},
		{Proxy: "b", Server: "b", Addr: "10.0.0.11:30080", Status: "UP", Sessions: 4},
		{Proxy: "b", Server: "c", Addr: "[fd00::1]:30080", Status: "DOWN", Sessions: 8},
	}
	old := []runtimeapi.Stat{{Proxy: "b", Server: "a", Addr: "10.0.0.1:30080", Status: "UP", Sessions: 16}}
	stats := [][]runtimeapi.Stat{current, old}
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	require.Equal(t, controller.Traffic{Servers: 4, Accepting: 3, Sessions: 19, OldWorkers: 1}, controller.NewTraffic(stats, []netip.Addr{v4}))
	require.Equal(t, controller.Traffic{Servers: 5, Accepting: 3, Sessions: 27, OldWorkers: 1}, controller.NewTraffic(stats, []netip.Addr{v4, v6}))
	require.Equal(t, controller.Traffic{}, controller.NewTraffic(nil, []netip.Addr{v4}))

	var err error
	h := controller.TrafficHandler(func(context.Context) ([][]runtimeapi.Stat, error) { return stats, err })
	get := func(query string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/traffic"+query, nil))
		return w.Code, w.Body.String()
	}
	code, text := get("?addr=::ffff:10.0.0.1")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"servers":4,"accepting":3,"sessions":19,"oldWorkers":1}`, text)
	for _, query := range []string{"", "?addr=", "?addr=a"} {
		code, _ = get(query)
		require.Equal(t, http.StatusBadRequest, code, query)
	}
	err = errors.New("no worker")
	code, text = get("?addr=10.0.0.1")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, "no worker")
}

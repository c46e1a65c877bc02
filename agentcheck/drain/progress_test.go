package drain

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgress(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	open := Load{Connections: 3, Idle: 1, Requests: 1, Oldest: 11500 * time.Millisecond}
	idle := Load{Connections: 2, Idle: 2}
	s := Settings{Delay: 5 * time.Second, Timeout: 20 * time.Second}
	for name, test := range map[string]struct {
		settings       Settings
		began, stopped time.Time
		now            time.Time
		load           Load
		want           State
		delay, left    time.Duration
		text           string
	}{
		"no drain": {s, time.Time{}, time.Time{}, at(0), open, Serving, 0, 0, "serving 3 connections (1 idle), 1 request, oldest 12s"},
		"delay": {
			s, began,
			time.Time{},
			at(1), open, Draining, 4 * time.Second, 24 * time.Second,
			"draining, serves new requests for 4s more; 3 connections (1 idle), 1 request, oldest 12s; at most 24s more",
		},
		"delay lasts although nothing is open": {
			s, began,
			time.Time{},
			at(4.9),
			Load{},
			Draining, 100 * time.Millisecond, 20100 * time.Millisecond,
			"draining, serves new requests for 1s more; 0 connections, 0 requests; at most 21s more",
		},
		"waiting": {
			s, began,
			time.Time{},
			at(7), open, Waiting, 0, 18 * time.Second,
			"waiting for 3 connections (1 idle), 1 request, oldest 12s, at most 18s more",
		},
		"a handler without a connection": {
			s, began,
			time.Time{},
			at(7),
			Load{Requests: 2},
			Waiting, 0, 18 * time.Second,
			"waiting for 0 connections, 2 requests, at most 18s more",
		},
		"only idle connections":  {s, began, time.Time{}, at(5), idle, Done, 0, 0, "done; 2 connections (2 idle), 0 requests"},
		"expired":                {s, began, time.Time{}, at(25), open, Expired, 0, 0, "the timeout is over; still open: 3 connections (1 idle), 1 request, oldest 12s"},
		"done after the time":    {s, began, time.Time{}, at(99), Load{}, Done, 0, 0, "done; 0 connections, 0 requests"},
		"stopped during delay":   {s, began, at(3), at(7), open, Waiting, 0, 18 * time.Second, ""},
		"stopped an hour later":  {s, began, at(3600), at(3601), open, Waiting, 0, 19 * time.Second, ""},
		"default times":          {Settings{}, began, time.Time{}, at(1), open, Draining, 9 * time.Second, 24 * time.Second, ""},
		"no delay":               {Settings{Delay: -1}, began, time.Time{}, at(0), open, Waiting, 0, 15 * time.Second, ""},
		"neither delay nor wait": {Settings{Delay: -1, Timeout: -1}, began, time.Time{}, at(0), open, Expired, 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := test.settings.Progress(test.began, test.stopped, test.now, test.load)
			require.Equal(t, Progress{
				State: test.want, Since: test.began, Stopping: !test.stopped.IsZero(),
				DelayLeft: test.delay, Left: test.left, Load: test.load,
			}, p)
			if test.text != "" {
				require.Equal(t, test.text, p.String())
			}
		})
	}
	require.Equal(t, "expired", Expired.String())
	require.Equal(t, "State(9)", State(9).String())
}

package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/frontproxy/policy"
)

// everything sets each field to a value that is not its default.
const everything = `
protocol: grpc
balance: random
connect: 300ms
server: 1m30s
keepAlive: 2m
retries: 1
retryOn: [conn-failure, "503"]
retryBudget: 10%
retriesPerSecond: 5
ejectErrors: 4
ejectTime: 12s
healthPath: /healthz
healthHost: web
panicBelow: 50%
overprovision: 120%
noSpill: true
perPod: 32
pending: 100
queueTime: 1s
reuse: safe
poolPurge: 2s
slowStart: 20s
closeOneIn: 100
http2Requests: 5000
limits:
  requests: 400
  connections: 300
  source: {requests: 50, connections: 20}
accessLog: true
traceSample: 0.5%
replaceForwarded: true
grace: 10s
hardStop: 1m
`

func TestParseEverything(t *testing.T) {
	t.Parallel()
	got, err := policy.Parse("p.yaml", []byte(everything))
	require.NoError(t, err)
	want := frontproxy.Settings{
		Protocol: haproxycfg.GRPC, Balance: haproxycfg.Random, Connect: 300 * time.Millisecond, Server: 90 * time.Second, KeepAlive: 2 * time.Minute,
		Retries: 1, RetryOn: []haproxycfg.RetryEvent{haproxycfg.RetryConnFailure, haproxycfg.Retry503}, RetryPercent: 10, RetriesPerSecond: 5,
		EjectErrors: 4, EjectTime: 12 * time.Second, HealthPath: "/healthz", HealthHost: "web", PanicBelow: 50, Overprovision: 120, NoSpill: true,
		PerPod: 32, Pending: 100, QueueTime: time.Second, Reuse: haproxycfg.ReuseSafe, PoolPurge: 2 * time.Second, SlowStart: 20 * time.Second,
		CloseOneIn: 100, HTTP2Requests: 5000, AccessLog: true, TraceSample: 50, ReplaceForwarded: true, Grace: 10 * time.Second, HardStop: time.Minute,
		Limits: haproxycfg.Limits{
			Limit: haproxycfg.Limit{Requests: 400, Connections: 300}, Source: haproxycfg.Limit{Requests: 50, Connections: 20},
		},
	}
	require.Equal(t, want, got)
	v := reflect.ValueOf(got)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "NoPool" { // NoPool contradicts PoolPurge
			require.False(t, v.Field(i).IsZero(), "the test lacks %s", name)
		}
	}
}

func TestParseOffAndZero(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want frontproxy.Settings
	}{
		{"", frontproxy.Settings{}},
		{"# nothing\n", frontproxy.Settings{}},
		{"retries: off", frontproxy.Settings{Retries: -1}},
		{"retries: 0", frontproxy.Settings{Retries: -1}},
		{"retryBudget: off", frontproxy.Settings{RetryPercent: -1}},
		{"ejectErrors: off\npanicBelow: off", frontproxy.Settings{EjectErrors: -1, PanicBelow: -1}},
		{"traceSample: 0%", frontproxy.Settings{TraceSample: -1}},
		{"traceSample: 100%", frontproxy.Settings{TraceSample: 10_000}},
		{"grace: 0s", frontproxy.Settings{Grace: -1}},
		{"perPod: 0\nslowStart: 0s", frontproxy.Settings{}},
		{"pending: off", frontproxy.Settings{Pending: -1}},
		{"noPool: true", frontproxy.Settings{NoPool: true}},
	} {
		got, err := policy.Parse("p.yaml", []byte(tt.text))
		require.NoError(t, err, tt.text)
		require.Equal(t, tt.want, got, tt.text)
	}
}

func TestFaultsNameFileLineAndField(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"retries: 1\nretrys: 2":            `p.yaml:2: unknown field "retrys"`,
		"\nretries: many":                  "p.yaml:2: retries: must be a whole number from 0 to 2147483647",
		"retries: -1":                      "p.yaml:1: retries: must be a whole number",
		"retries: 1.5":                     "p.yaml:1: retries: must be a whole number",
		"retries: '1'":                     "p.yaml:1: retries: must be a whole number",
		"retries: 1\nretries: 2":           "p.yaml:2: retries: is given twice",
		"server: 5":                        "p.yaml:1: server: must be a time with a unit",
		"server: 0s":                       "p.yaml:1: server: must be longer than 0",
		"server: 10ns":                     "p.yaml:1: server: 10ns is not whole milliseconds",
		"server: [5s]":                     "p.yaml:1: server: must be a time",
		"panicBelow: 25":                   "p.yaml:1: panicBelow: must be a whole percentage",
		"panicBelow: 101%":                 "p.yaml:1: panicBelow: 101 is more than 100",
		"retryBudget: 101%":                "p.yaml:1: retryBudget: 101 is more than 100",
		"retryBudget: 0%":                  "p.yaml:1: retryBudget: must be more than 0, or off, which means no limit",
		"overprovision: 0%":                "p.yaml:1: overprovision: must be more than 0%",
		"traceSample: 0.123%":              "p.yaml:1: traceSample: must be a percentage with at most two decimals",
		"traceSample: .5%":                 "p.yaml:1: traceSample: must be a percentage",
		"perPod: 1\npending: 0":            "p.yaml:2: pending: must be more than 0, or off",
		"pending: 5":                       "p.yaml:1: pending: no request waits, because PerPod is 0",
		"\nhealthPath: healthz":            `p.yaml:2: healthPath: "healthz" does not begin with a slash`,
		"retryOn: [\"503\", \"503\"]":      `p.yaml:1: retryOn: "503" occurs twice`,
		"balance: source":                  "p.yaml:1: balance: must be one of [leastconn roundrobin random]",
		"noSpill: yes":                     "p.yaml:1: noSpill: must be true or false",
		"healthPath: ''":                   "p.yaml:1: healthPath: must be a non-empty string",
		"retryOn: []":                      "p.yaml:1: retryOn: must be a list; to repeat nothing, write retries: off",
		"retryOn: [all]":                   "p.yaml:1: retryOn: each entry must be one of",
		"limits: 5":                        "p.yaml:1: limits: must be a mapping of fields",
		"limits:\n  source:\n    reqs: 1":  `p.yaml:3: unknown field "reqs"`,
		"limits:\n  source: {requests: x}": "p.yaml:2: limits.source.requests: must be a whole number",
		"grace: 40s":                       "p.yaml: hardStop: 30s is not longer than Grace, 40s",
		"a: &x 1\nretries: *x":             "p.yaml:2: retries: must not be an alias",
		"- 1":                              "p.yaml:1: must be a mapping of fields",
		"retries: 1\n---\nretries: 2":      "p.yaml: the file has more than one document",
		"retries: [":                       "p.yaml: line 1: did not find expected node content",
		"? [a]\n: 1":                       "p.yaml:1: unknown field",
		strings.Repeat("#", 65<<10):        "p.yaml: the file has more than 65536 bytes",
	} {
		s, err := policy.Parse("p.yaml", []byte(text))
		require.ErrorContains(t, err, want)
		require.Zero(t, s, "one fault rejects the file")
		var fault *policy.Error
		require.ErrorAs(t, err, &fault)
	}
}

func TestManyFaults(t *testing.T) {
	t.Parallel()
	_, err := policy.Parse("p", []byte(strings.Repeat("x: 1\n", 1)+"y: 2\nretries: many"))
	var joined interface{ Unwrap() []error }
	require.True(t, errors.As(err, &joined))
	require.Len(t, joined.Unwrap(), 3)
}

func TestRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	_, err := policy.Read(file)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte("retries: 5"), 0o600))
	s, err := policy.Read(file)
	require.NoError(t, err)
	require.Equal(t, 5, s.Retries)
}

// FuzzParse requires that Parse rejects a file with named faults, or returns settings that
// Proxy.Config accepts.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte("limits: {source: {requests: 5}}\nretries: off\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := policy.Parse("p.yaml", data)
		if err == nil {
			p := frontproxy.Proxy{Service: "web", Binds: []haproxycfg.Bind{{Address: ":80"}}, Settings: s}
			_, _, err := p.Config(nil, 0, nil)
			require.NoError(t, err)
			return
		}
		require.Zero(t, s)
		var fault *policy.Error
		require.ErrorAs(t, err, &fault)
		require.Equal(t, "p.yaml", fault.File)
	})
}

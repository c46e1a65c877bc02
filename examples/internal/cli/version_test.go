package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestBuild(t *testing.T) {
	b := buildOf(&debug.BuildInfo{
		GoVersion: "go1.26.0",
		Main:      debug.Module{Version: "v0.1.0"},
		Settings:  []debug.BuildSetting{{Key: "vcs.revision", Value: "0c78feba"}, {Key: "vcs.time", Value: "2026-01-31T12:00:00Z"}},
	})
	require.Equal(t, build{"v0.1.0", "0c78feba", "2026-01-31T12:00:00Z", "go1.26.0"}, b)
	require.Equal(t, "v0.1.0, commit 0c78feba of 2026-01-31T12:00:00Z, go1.26.0 "+runtime.GOOS+"/"+runtime.GOARCH, b.String())
	require.Equal(t, build{"(devel)", "unknown", "unknown", runtime.Version()}, buildOf(nil))

	const want = `# HELP headgate_build_info Always 1. The labels are the version of the binary, its commit, and the version of Go that built it.
# TYPE headgate_build_info gauge
headgate_build_info{goversion="go1.26.0",revision="0c78feba",version="v0.1.0"} 1
`
	r := prometheus.NewRegistry()
	r.MustRegister(b.metric())
	page := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Host = "localhost"
	Admin{Gatherer: r}.Handler().ServeHTTP(page, req)
	require.Equal(t, want, page.Body.String())
}

// -version prints one line to standard output, whatever the other flags are. Neither the environment
// nor the file of -config can set -version.
func TestVersion(t *testing.T) {
	var stdout, stderr bytes.Buffer
	inv := Invocation{Args: []string{"-config", "/no/such/file", "-version"}, Stdout: &stdout, Stderr: &stderr}
	code, done := inv.Parse(NewFlagSet("tool"))
	require.True(t, done)
	require.Equal(t, ExitOK, code)
	require.Equal(t, "tool "+thisBuild().String()+"\n", stdout.String())
	require.Empty(t, stderr.String())

	inv = Invocation{Stderr: &stderr, LookupEnv: func(name string) (string, bool) { return "v2", name == "HEADGATE_VERSION" }}
	_, done = inv.Parse(NewFlagSet("tool"))
	require.False(t, done, stderr.String())
}

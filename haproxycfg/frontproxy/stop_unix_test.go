//go:build unix

package frontproxy_test

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/frontproxy"
)

// TestStopping: in the grace time, a stopping HAProxy fails its monitor, serves requests, and
// closes the connections of clients.
func TestStopping(t *testing.T) {
	t.Parallel()
	eachHAProxy(t, func(t *testing.T, h installed) {
		t.Parallel()
		own := servePods(t, 1, "a", false, nil)
		f := h.start(t, frontproxy.Proxy{Settings: frontproxy.Settings{Grace: time.Minute, HardStop: 2 * time.Minute, CloseOneIn: -1}}, own.pods, 1)
		resp, _ := f.get(t, "/")
		require.False(t, resp.Close)
		require.NoError(t, syscall.Kill(f.process.Pid(), syscall.SIGUSR1))
		eventually(t, "the monitor does not fail", func() bool {
			resp, _ := f.do(t, http.MethodGet, f.admin+"/ready")
			return resp.StatusCode == http.StatusServiceUnavailable
		})
		resp, _ = f.get(t, "/")
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.True(t, resp.Close)
	})
}

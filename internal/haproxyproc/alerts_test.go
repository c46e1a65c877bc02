package haproxyproc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/haproxyproc"
)

func TestAlerts(t *testing.T) {
	require.Equal(t, []string{"[/usr/sbin/haproxy.main()] Cannot raise FD limit to 2240, limit is 600.", "parsing [h.cfg:7] : unknown keyword 'x'", "old"}, haproxyproc.Alerts(`[NOTICE]   (20289) : haproxy version is 2.6.12
[ALERT]    (20289) : [/usr/sbin/haproxy.main()] Cannot raise FD limit to 2240, limit is 600.
[WARNING]  (20289) : Loading failure!
[ALERT]    (7) : config : parsing [h.cfg:7] : unknown keyword 'x'
[ALERT]    (8) : config : parsing [h.cfg:7] : unknown keyword 'x'
[ALERT] 324/211500 (123) : old
`))
	require.Empty(t, haproxyproc.Alerts("[ALERT] (1) : \n not [ALERT] (1) : x\n"))
	require.Empty(t, haproxyproc.Alerts("[ALERT] (1) : \u0085\n[ALERT] (1) : \u00a0\n"), "white space of Unicode")
	require.Len(t, haproxyproc.Alerts("[ALERT] (1) : a\n[ALERT] (1) : b\n[ALERT] (1) : c\n[ALERT] (1) : d\n[ALERT] (1) : e\n[ALERT] (1) : f\n"), 5)
}

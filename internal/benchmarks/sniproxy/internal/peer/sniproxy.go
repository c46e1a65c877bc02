package peer

import (
	"bytes"
	"fmt"
	"strings"
)

// SNIProxy is dlundquist's sniproxy. Its table is a list of regular expressions, tried
// one after the other; they are anchored and their dots are literal, or they would match
// other names too. It has no time-outs to set, and its backlog is fixed.
func SNIProxy(path, version string) Router {
	return Router{Name: "sniproxy", Role: Peer, Version: version, Plan: func(s Setup) Plan {
		var conf bytes.Buffer
		if s.Root {
			// It would become daemon, and the kernel then forgets that it dies with us.
			conf.WriteString("user root\n")
		}
		fmt.Fprintf(&conf, `error_log {
	filename %s/error.log
	priority critical
}
listener %s {
	protocol tls
	table hosts
}
table hosts {
`, s.Dir, s.Listen)
		for i, h := range s.Hosts {
			fmt.Fprintf(&conf, "\t^%s$ %s\n", strings.ReplaceAll(h, ".", "[.]"), s.Backend(i))
		}
		conf.WriteString("}\n")
		return Plan{
			Files: map[string][]byte{"sniproxy.conf": conf.Bytes()},
			Args:  []string{path, "-f", "-c", s.Dir + "/sniproxy.conf"},
		}
	}}
}

package peer

import (
	"bytes"
	"fmt"
	"strings"
)

// TCPProxy is tcpproxy with a map of names, 5 s to connect and none of the other
// time-outs, which it does not have.
func TCPProxy(path, version string) Router {
	return fromJSON("tcpproxy", Peer, version, path+" -listen {listen} -hosts {hosts}")
}

// Plain is Go with net.Dialer and io.Copy.
func Plain(path, version string) Router {
	return fromJSON("plain Go", Baseline, version, path+" -listen {listen} -hosts {hosts}")
}

// SNIRouter is what the project makes. In the command, which is split at spaces, {listen}
// stands for the address and {hosts} for the file of hosts.
func SNIRouter(command, version string) Router {
	return fromJSON("snirouter", Ours, version, command)
}

func fromJSON(name string, role Role, version, command string) Router {
	return Router{Name: name, Role: role, Version: version, Plan: func(s Setup) Plan {
		var hosts bytes.Buffer
		for i, h := range s.Hosts {
			lead := ",\n"
			if i == 0 {
				lead = "["
			}
			fmt.Fprintf(&hosts, `%s{"app":"app-%d","host":"%s","endpoint":"%s"}`, lead, i, h, s.Backend(i))
		}
		hosts.WriteString("]\n")
		replace := strings.NewReplacer("{listen}", s.Listen.String(), "{hosts}", s.Dir+"/hosts.json")
		args := strings.Fields(command)
		for i := range args {
			args[i] = replace.Replace(args[i])
		}
		return Plan{Files: map[string][]byte{"hosts.json": hosts.Bytes()}, Args: args}
	}}
}

package manifesttest

import (
	"bytes"
	"fmt"
)

// Routes returns declarations of n routes in cluster eu-1: for each service of Services(n), a host
// with one path.
func Routes(n int) []byte {
	var text bytes.Buffer
	text.WriteString("routes:\n")
	for i := range n {
		namespace, name := ServiceName(i)
		fmt.Fprintf(&text, "- host: s%d.example.com\n  path: /api\n  backends:\n  - {cluster: eu-1, namespace: %s, service: %s, port: http}\n", i, namespace, name)
	}
	return text.Bytes()
}

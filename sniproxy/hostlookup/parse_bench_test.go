package hostlookup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkParseHosts reads a file with 10,000 hosts. One operation is one host.
func BenchmarkParseHosts(b *testing.B) {
	const n = 10_000
	var file strings.Builder
	for i := range n {
		fmt.Fprintf(&file, ",\n\t{\"app\": \"shop\", \"host\": \"site-%06d.apps.example\", \"endpoint\": \"10.0.0.1:8443\"}", i)
	}
	data := []byte("[" + file.String()[1:] + "\n]\n")
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += n {
		hosts, problems, err := ParseHosts("hosts.json", data)
		require.NoError(b, err)
		require.Empty(b, problems)
		require.Equal(b, n, hosts.Len())
	}
}

package manifest_test

import (
	"testing"

	"github.com/headgate/headgate/internal/manifesttest"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// BenchmarkParse reads 1,000 nodes and 2,000 services with managed fields.
func BenchmarkParse(b *testing.B) {
	nodes, services := manifesttest.Nodes(1000), manifesttest.Services(2000)
	for _, format := range []struct {
		name  string
		files [2][]byte
	}{
		{"yaml", [2][]byte{manifesttest.YAML(nodes), manifesttest.YAML(services)}},
		{"json", [2][]byte{manifesttest.JSON(nodes), manifesttest.JSON(services)}},
	} {
		b.Run(format.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(format.files[0]) + len(format.files[1])))
			for b.Loop() {
				for i, want := range [...][2]int{{1000, 0}, {0, 2000}} {
					o, problems := manifest.Parse("bench", format.files[i])
					if len(o.Nodes) != want[0] || len(o.Services) != want[1] || len(problems) != 0 {
						b.Fatal(len(o.Nodes), len(o.Services), problems)
					}
				}
			}
		})
	}
}

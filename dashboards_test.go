package headgate_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dashboard is a dashboard of Grafana.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ Type, UID string }
		GridPos                  struct{ X, Y, W, H int }
		FieldConfig              struct{ Defaults struct{ Unit string } }
		Targets                  []struct {
			RefID, Expr, LegendFormat string
			Datasource                struct{ Type, UID string }
		}
	}
}

// TestDashboards checks the dashboards as far as this is possible without Grafana. "make
// test-dashboards" runs their queries.
func TestDashboards(t *testing.T) {
	metrics, err := os.ReadFile(metricsPage)
	require.NoError(t, err)
	files, err := filepath.Glob("examples/dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, files, 3)
	uids := map[string]bool{}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var d dashboard
			require.NoError(t, json.Unmarshal(text, &d))
			require.Regexp(t, `^[a-zA-Z0-9_-]{1,40}$`, d.UID, "Grafana accepts no other uid")
			require.False(t, uids[d.UID], d.UID)
			uids[d.UID] = true
			require.NotEmpty(t, d.Title)
			require.Positive(t, d.SchemaVersion)
			variables := map[string]string{}
			for _, v := range d.Templating.List {
				variables[v.Name] = v.Type
			}
			require.Equal(t, "datasource", variables["datasource"])
			ids, titles, taken := map[int]bool{}, map[string]bool{}, map[[2]int]bool{}
			for _, p := range d.Panels {
				require.Positive(t, p.ID, p.Title)
				require.False(t, ids[p.ID], "two panels have the id %d", p.ID)
				require.False(t, titles[p.Title], "two panels have the title %q", p.Title)
				ids[p.ID], titles[p.Title] = true, true
				at := p.GridPos
				require.True(t, at.X >= 0 && at.W > 0 && at.H > 0 && at.X+at.W <= 24, p.Title)
				for x := at.X; x < at.X+at.W; x++ {
					for y := at.Y; y < at.Y+at.H; y++ {
						require.False(t, taken[[2]int{x, y}], "%s is on top of another panel", p.Title)
						taken[[2]int{x, y}] = true
					}
				}
				if p.Type == "row" {
					require.Empty(t, p.Targets, p.Title)
					continue
				}
				require.Equal(t, "timeseries", p.Type, p.Title)
				require.NotEmpty(t, p.Description, p.Title)
				require.NotEmpty(t, p.FieldConfig.Defaults.Unit, p.Title)
				require.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
				require.NotEmpty(t, p.Targets, p.Title)
				refs := map[string]bool{}
				for _, target := range p.Targets {
					require.False(t, refs[target.RefID], p.Title)
					refs[target.RefID] = true
					require.NotEmpty(t, target.RefID, p.Title)
					require.NotEmpty(t, target.LegendFormat, p.Title)
					require.Equal(t, "prometheus", target.Datasource.Type, p.Title)
					require.Equal(t, "${datasource}", target.Datasource.UID, p.Title)
					for _, use := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
						require.True(t, use[1] == "__rate_interval" || variables[use[1]] != "", "%s: no variable %s", p.Title, use[1])
					}
					for _, name := range regexp.MustCompile(`\b(headgate|haproxy)_\w+`).FindAllString(target.Expr, -1) {
						if !strings.Contains(target.Expr, ":"+name) { // otherwise a recording rule defines it
							requireMetric(t, string(metrics), name, file+": "+p.Title)
						}
					}
				}
			}
		})
	}
}

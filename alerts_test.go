package headgate_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const alertsPage, metricsPage = "examples/ALERTS.md", "examples/METRICS.md"

// rulesFile is a file of rules for Prometheus.
type rulesFile struct {
	Groups []struct {
		Rules []struct {
			Record, Alert, Expr string
			Labels, Annotations map[string]string
		}
	}
}

// rulesTest is a file of tests for "promtool test rules".
type rulesTest struct {
	Tests []struct {
		AlertRuleTest []struct {
			Alertname string
			ExpAlerts []any `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func readYAML(t *testing.T, file string, value any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, value), file)
}

// metricsIn returns the names of the metrics of headgate and of HAProxy in a text.
func metricsIn(text string) []string {
	return regexp.MustCompile(`\b(headgate|haproxy)_\w+`).FindAllString(text, -1)
}

// requireMetric fails if a metric is not on the page of all metrics.
func requireMetric(t *testing.T, page, name, where string) {
	t.Helper()
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && strings.Contains(page, "| `"+base+"` |") {
			return
		}
	}
	t.Errorf("%s names the metric %s, which is not in %s", where, name, metricsPage)
}

// TestAlerts checks the rules for Prometheus. Each alert has a severity, a summary and a section in
// ALERTS.md that says what to do, and a test of "make test-rules" makes it fire. The rules name only
// metrics that exist.
func TestAlerts(t *testing.T) {
	page, err := os.ReadFile(alertsPage)
	require.NoError(t, err)
	metrics, err := os.ReadFile(metricsPage)
	require.NoError(t, err)
	var sections []string
	for _, heading := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(string(page), -1) {
		sections = append(sections, heading[1])
	}
	files, err := filepath.Glob("examples/*/kubernetes/*_test.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 6)
	var alerts []string
	for _, tests := range files {
		file := strings.Replace(tests, "_test.yaml", ".yaml", 1)
		require.Contains(t, string(page), "("+strings.TrimPrefix(file, "examples/")+")")
		var rules rulesFile
		readYAML(t, file, &rules)
		var tested rulesTest
		readYAML(t, tests, &tested)
		fires := map[string]bool{}
		for _, test := range tested.Tests {
			for _, a := range test.AlertRuleTest {
				fires[a.Alertname] = fires[a.Alertname] || len(a.ExpAlerts) > 0
			}
		}
		recorded := map[string]bool{}
		for _, group := range rules.Groups {
			for _, rule := range group.Rules {
				if rule.Record != "" {
					for _, name := range metricsIn(rule.Record) {
						recorded[name] = true
					}
				}
			}
		}
		for _, group := range rules.Groups {
			for _, rule := range group.Rules {
				where := fmt.Sprintf("%s: %s%s", file, rule.Record, rule.Alert)
				for _, name := range metricsIn(rule.Expr) {
					if !recorded[name] {
						requireMetric(t, string(metrics), name, where)
					}
				}
				if rule.Alert == "" {
					continue
				}
				alerts = append(alerts, rule.Alert)
				require.Contains(t, []string{"critical", "warning"}, rule.Labels["severity"], where)
				require.NotEmpty(t, rule.Annotations["summary"], where)
				require.Equal(t, alertsPage+"#"+strings.ToLower(rule.Alert), rule.Annotations["runbook"], where)
				require.Contains(t, sections, rule.Alert, "%s has no section for it", alertsPage)
				require.True(t, fires[rule.Alert], "%s: no test makes %s fire", tests, rule.Alert)
			}
		}
	}
	slices.Sort(alerts)
	slices.Sort(sections)
	require.Equal(t, alerts, sections)
}

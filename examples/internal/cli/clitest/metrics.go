package clitest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// own is the beginning of the names of headgate's own metrics. Libraries define all other metrics.
const own = "headgate_"

// metric is one row of the page of all metrics.
type metric struct {
	name, kind, help string
	labels           []string
}

// MetricsPage checks that a section of the page of all metrics, examples/METRICS.md, has the same
// metrics as the collectors, and a row for each of their labels. The collectors need no values. If
// the environment variable UPDATE_METRICS is set, MetricsPage writes the table of the metrics, and
// the author writes the rows of the labels.
func MetricsPage(t testing.TB, section string, collectors ...prometheus.Collector) {
	t.Helper()
	metrics := defined(t, collectors)
	lint(t, exposition(metrics))
	file := pageFile(t)
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end, ok := sectionOf(string(page), section)
	if !ok {
		t.Fatalf("%s has no section %q", file, section)
	}
	text := string(page[begin:end])
	first, last := tableOf(text, "| metric |")
	want := rows(metrics)
	if got := text[first:last]; got != want && os.Getenv("UPDATE_METRICS") != "" {
		text = text[:first] + want + text[last:]
		if err := os.WriteFile(file, slices.Concat(page[:begin], []byte(text), page[end:]), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("the section %q of %s is out of date; UPDATE_METRICS=1 go test -p 1 -run TestMetricsPage ./examples/... writes it. Want:\n%s", section, file, want)
	}
	first, last = tableOf(text, "| label |")
	described := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(text[first:last], -1) {
		described[row[1]] = true
	}
	used := map[string]bool{}
	for _, m := range metrics {
		for _, label := range m.labels {
			used[label] = true
			if !described[label] {
				t.Errorf("the section %q of %s does not describe the label %s of %s", section, file, label, m.name)
			}
		}
	}
	for label := range described {
		if !used[label] {
			t.Errorf("the section %q of %s describes the label %s, which no metric has", section, file, label)
		}
	}
}

// Scrape checks an answer of /metrics: the linter of "promtool check metrics" finds no problem, and
// each of our metrics is on the page of all metrics with the same type and help text.
func Scrape(t testing.TB, text string) {
	t.Helper()
	lint(t, text)
	file := pageFile(t)
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	help := map[string]string{}
	found := false
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(fields) < 4 || fields[0] != "#" || !strings.HasPrefix(fields[2], own) {
			continue
		}
		found = true
		switch fields[1] {
		case "HELP":
			help[fields[2]] = strings.ReplaceAll(fields[3], `\\`, `\`)
		case "TYPE":
			m := metric{name: fields[2], kind: fields[3], help: help[fields[2]]}
			row := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta("| `"+m.name+"` | "+m.kind+" | ") + `[^|]* \| [^|]* ` + regexp.QuoteMeta("| "+cell(m.help)+" |") + `$`)
			if !row.Match(page) {
				t.Errorf("%s has no row for %s with the type %s and the text %q", file, m.name, m.kind, m.help)
			}
		}
	}
	if !found {
		t.Errorf("no metric of headgate in %q", text)
	}
}

func lint(t testing.TB, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatalf("%v in %.2000q", err, text)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, own) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

var descPattern = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), .*constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// defined returns our metrics that the collectors define, sorted by name. The values of constant
// labels must contain no comma.
func defined(t testing.TB, collectors []prometheus.Collector) (metrics []metric) {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		for _, c := range collectors {
			c.Describe(descs)
		}
	}()
	for d := range descs {
		// A prometheus.Desc has no methods that return its name, its help text and its labels. Only
		// the text of its method String contains them.
		parts := descPattern.FindStringSubmatch(d.String())
		if parts == nil {
			t.Errorf("the text %q has another form than this test expects", d)
			continue
		}
		name, err := strconv.Unquote(parts[1])
		if err != nil {
			t.Error(err)
		}
		help, err := strconv.Unquote(parts[2])
		if err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(name, own) {
			continue
		}
		m := metric{name: name, kind: kindOf(name), help: help}
		for _, label := range strings.Split(parts[3]+","+parts[4], ",") {
			if label, _, _ = strings.Cut(label, "="); label != "" {
				m.labels = append(m.labels, label)
			}
		}
		slices.Sort(m.labels)
		metrics = append(metrics, m)
	}
	byName := func(a, b metric) int { return cmp.Compare(a.name, b.name) }
	slices.SortStableFunc(metrics, byName)
	return slices.CompactFunc(metrics, func(a, b metric) bool { return a.name == b.name })
}

// kindOf returns the type of a metric from its name. Scrape checks that a real scrape shows the same
// type.
func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case strings.HasSuffix(name, "_duration_seconds"):
		return "histogram"
	}
	return "gauge"
}

// unitOf returns the unit of a metric.
func unitOf(m metric) string {
	name := strings.TrimSuffix(m.name, "_total")
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"):
		return "Unix time in s"
	case strings.HasSuffix(name, "_per_second"):
		return "1/s"
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	case strings.HasSuffix(name, "_percent"):
		return "%"
	case strings.HasSuffix(name, "_share"):
		return "share, 0 to 1"
	case strings.HasSuffix(name, "_info"):
		return "always 1"
	case regexp.MustCompile(`^1 (if|while|for|from)\b`).MatchString(m.help):
		return "0 or 1"
	}
	return "count"
}

// exposition returns a scrape in which each metric has one series.
func exposition(metrics []metric) string {
	var b strings.Builder
	for _, m := range metrics {
		fmt.Fprintf(&b, "# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n", m.name, strings.ReplaceAll(m.help, `\`, `\\`), m.kind)
		labels := ""
		for _, label := range m.labels {
			labels += label + `="x",`
		}
		if m.kind == "histogram" {
			fmt.Fprintf(&b, "%s_bucket{%sle=\"+Inf\"} 1\n%[1]s_sum{%[2]s} 1\n%[1]s_count{%[2]s} 1\n", m.name, labels)
		} else {
			fmt.Fprintf(&b, "%s{%s} 1\n", m.name, labels)
		}
	}
	return b.String()
}

// rows returns the rows of a table of metrics.
func rows(metrics []metric) string {
	var b strings.Builder
	for _, m := range metrics {
		labels := ""
		for i, label := range m.labels {
			if i > 0 {
				labels += ", "
			}
			labels += "`" + label + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.name, m.kind, unitOf(m), cmp.Or(labels, "none"), cell(m.help))
	}
	return b.String()
}

// cell escapes a text for a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// sectionOf returns where a section of a page begins and ends.
func sectionOf(page, title string) (begin, end int, ok bool) {
	begin = strings.Index(page, "\n## "+title+"\n")
	if begin < 0 {
		return 0, 0, false
	}
	if next := strings.Index(page[begin+1:], "\n## "); next >= 0 {
		return begin, begin + 1 + next, true
	}
	return begin, len(page), true
}

// tableOf finds the table whose head begins with the text in the argument "head", and returns where
// its rows begin and end. If there is no such table, tableOf returns 0, 0.
func tableOf(text, head string) (begin, end int) {
	begin = strings.Index(text, "\n"+head)
	if begin < 0 {
		return 0, 0
	}
	begin++
	for range 2 { // the head, and the line below it
		begin += strings.Index(text[begin:], "\n") + 1
	}
	end = begin
	for strings.HasPrefix(text[end:], "| ") {
		end += strings.Index(text[end:], "\n") + 1
	}
	return begin, end
}

// pageFile returns the path of examples/METRICS.md, which describes all metrics.
func pageFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(Root(t), "examples", "METRICS.md")
}

// Root returns the directory of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if data, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.HasPrefix(string(data), "module github.com/headgate/headgate\n") {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}

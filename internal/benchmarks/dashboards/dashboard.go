package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// dashboard is the part of a dashboard's JSON that the checks need.
type dashboard struct {
	file   string
	Title  string
	Panels []struct {
		Title       string
		Targets     []struct{ Expr, LegendFormat string }
		FieldConfig struct {
			Defaults struct{ Unit string }
		}
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

// emptyPanels are the titles of panels whose queries return data only after an operator has given a
// command. The check does not require data from these queries.
var emptyPanels = map[string]bool{
	"Shifts": true, // needs a running shift of a route
}

func readDashboards(dir string) (all []dashboard, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		d := dashboard{file: filepath.Base(file)}
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, d)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no dashboards in %s", dir)
	}
	return all, nil
}

// expand replaces the variables of Grafana in a query by values that Prometheus understands.
func expand(expr string) (string, error) {
	expr = strings.NewReplacer("$__rate_interval", "10s", "$instance", ".*").Replace(expr)
	if strings.Contains(expr, "$") {
		return "", fmt.Errorf("%s: unknown variable", expr)
	}
	return expr, nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// prometheus is a running Prometheus.
type prometheus struct{ url string }

// startPrometheus starts a Prometheus that scrapes all jobs every second. It loads the rules of the
// examples.
func (l *lab) startPrometheus(ctx context.Context, examples string) (*prometheus, error) {
	var b strings.Builder
	b.WriteString("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files:\n")
	rules, err := filepath.Glob(filepath.Join(examples, "*", "kubernetes", "rules.yaml"))
	if err != nil || len(rules) == 0 {
		return nil, fmt.Errorf("no rules in %s: %w", examples, err)
	}
	for _, file := range rules {
		if file, err = filepath.Abs(file); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "- %q\n", file)
	}
	b.WriteString("scrape_configs:\n")
	for _, job := range l.jobs {
		targets, err := json.Marshal(job.targets)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "- {job_name: %s, static_configs: [{targets: %s}]}\n", job.name, targets)
	}
	config := l.path("prometheus.yml")
	if err := os.WriteFile(config, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	address := l.address(9090)
	if err := l.start("prometheus", "--config.file", config, "--storage.tsdb.path", l.path("tsdb"), "--web.listen-address", address, "--log.level", "warn"); err != nil {
		return nil, err
	}
	return &prometheus{"http://" + address}, l.wait(ctx, "http://"+address+"/-/ready")
}

// sample is an element of the result of a query: the present value (Value), or the values over time
// (Values), and the labels that belong to them (Metric).
type sample struct {
	Metric map[string]string
	Value  point
	Values []point
}

// point is a pair of a Unix time and a value.
type point [2]any

func (p point) value() float64 {
	text, _ := p[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// seconds returns the Unix time of the point.
func (p point) seconds() float64 {
	s, _ := p[0].(float64)
	return s
}

// get sends a request to the HTTP API of Prometheus, and decodes the data of the answer into the
// argument "value".
func (p *prometheus) get(ctx context.Context, path string, values url.Values, value any) error {
	text, err := fetch(ctx, p.url+path+"?"+values.Encode())
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if jsonErr := json.Unmarshal([]byte(text), &answer); jsonErr != nil {
		return errors.Join(err, jsonErr)
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, value)
}

// query sends a query to Prometheus, and returns its present values.
func (p *prometheus) query(ctx context.Context, expr string) ([]sample, error) {
	var data struct{ Result []sample }
	err := p.get(ctx, "/api/v1/query", url.Values{"query": {expr}}, &data)
	return data.Result, err
}

// errNoData means that a query is valid, but returns no data.
var errNoData = errors.New("the query returns no data")

// waitForData repeats a query until it returns a value that is a number.
func (p *prometheus) waitForData(ctx context.Context, expr string) error {
	for {
		samples, err := p.query(ctx, expr)
		if err != nil {
			return err
		}
		for _, s := range samples {
			if !math.IsNaN(s.Value.value()) {
				return nil
			}
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return errNoData
		}
	}
}

// checkRules waits until Prometheus has evaluated all rules. It returns an error if Prometheus could
// not evaluate one of them.
func (p *prometheus) checkRules(ctx context.Context) error {
	for {
		n, err := p.evaluated(ctx)
		if !errors.Is(err, errNotEvaluated) {
			fmt.Printf("Prometheus evaluates %d rules\n", n)
			return err
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

// errNotEvaluated means that Prometheus has not evaluated a rule yet.
var errNotEvaluated = errors.New("the rule is not evaluated yet")

// evaluated returns the number of rules, and an error for the first rule that Prometheus has not
// evaluated yet or could not evaluate.
func (p *prometheus) evaluated(ctx context.Context) (n int, err error) {
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := p.get(ctx, "/api/v1/rules", nil, &data); err != nil {
		return 0, err
	}
	for _, group := range data.Groups {
		for _, rule := range group.Rules {
			switch n++; rule.Health {
			case "ok":
			case "unknown":
				return n, fmt.Errorf("%s: %w", rule.Name, errNotEvaluated)
			default:
				return n, fmt.Errorf("rule %s: %s: %s", rule.Name, rule.Health, rule.LastError)
			}
		}
	}
	return n, nil
}

// fetch returns the body of a URL. If the status is not 200, fetch returns the body and an error.
func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return string(body), err
}

// sleep waits for d. It returns false if ctx ends before d is over.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/nodeselect/disruption"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
	"github.com/headgate/headgate/nodeselect/disruption/gate/leases"
)

//go:embed README.md
var readme string // its table of flags groups the help

// settings are the flags that every command of nodegate accepts.
type settings struct {
	cluster, leaseCluster, leaseNamespace string
	reports                               cli.Strings
	maxAge, holdDown                      time.Duration
	agentPort                             uint
	budget                                disruption.Budget
	share                                 string

	name, conn string // the parts of cluster
}

func (s *settings) register(fs *flag.FlagSet) {
	fs.StringVar(&s.cluster, "cluster", "", cli.Meaning("cluster", "not dir:DIR"))
	fs.Var(&s.reports, "report", "the report of a terminator: `URL` of /report.json, unix:SOCKET of its -admin, or a file; give all terminators that send requests to the cluster")
	fs.DurationVar(&s.maxAge, "report-max-age", 0, "longest time since a file of -report was modified; 0 means no limit")
	fs.StringVar(&s.leaseCluster, "grant-kubeconfig", "", "`FILE[:CONTEXT]` or in-cluster: the cluster that stores the grants; the cluster of -cluster if empty")
	fs.StringVar(&s.leaseNamespace, "grant-namespace", "headgate", "`namespace` of the grants")
	fs.IntVar(&s.budget.Service, "max-away", disruption.DefaultService, "largest `number` of nodes of a service that may be away")
	fs.IntVar(&s.budget.Zone, "max-away-zone", 0, "largest `number` of nodes of a service in one zone that may be away; 0 means no limit")
	fs.BoolVar(&s.budget.OneZone, "one-zone", false, "let nodes go only while all other nodes that are away are in the same zone")
	fs.StringVar(&s.share, "max-share", "0", "largest `share` of all nodes that may be away, such as 10%; 0 means no limit")
	fs.BoolVar(&s.budget.Last, "last", false, "let the last node of a service go")
	fs.DurationVar(&s.holdDown, "back-for", gate.DefaultHoldDown, "how long a node must be back before its grant ends")
	fs.UintVar(&s.agentPort, "node-agent-port", 9707, cli.Meaning("node-agent-port", "they must answer up before a node counts as back; 0 means that a Ready node is back"))
}

// check checks the flags that all commands have. command is the name of the command. check also
// sets the fields that depend on several flags, or on a part of a flag.
func (s *settings) check(command string) error {
	name, where, ok := strings.Cut(s.cluster, "=")
	if !ok || validation.IsDNS1123Label(name) != nil || where == "" {
		return fmt.Errorf("-cluster %q: want NAME=kubeconfig:FILE[:CONTEXT] or NAME=in-cluster", s.cluster)
	}
	s.name, s.conn = name, strings.TrimPrefix(where, "kubeconfig:")
	share, err := cli.ParseShare(s.share)
	if err != nil {
		return fmt.Errorf("-max-share: %w", err)
	}
	s.budget.Share = share
	switch {
	case len(s.reports) == 0 && command != "release":
		return errors.New("-report is missing")
	case s.budget.Service < 1:
		return errors.New("-max-away must be 1 or more")
	case s.holdDown <= 0:
		return errors.New("-back-for must be more than 0")
	case s.agentPort > 65535:
		return fmt.Errorf("-node-agent-port: there is no port %d", s.agentPort)
	}
	return s.budget.Validate()
}

// requestTimeout limits a request to an API server.
const requestTimeout = 10 * time.Second

func load(spec string) (*rest.Config, error) {
	config, err := kubeconn.Load(spec)
	if err != nil {
		return nil, err
	}
	config.Timeout, config.QPS = requestTimeout, -1 // no rate limit: a Keeper sends few requests, and a wait would delay its answers
	return config, nil
}

func (s *settings) keeper() (*keeper.Keeper, error) {
	config, err := load(s.conn)
	if err != nil {
		return nil, err
	}
	leaseConfig := config
	if s.leaseCluster != "" {
		if leaseConfig, err = load(s.leaseCluster); err != nil {
			return nil, fmt.Errorf("-grant-kubeconfig: %w", err)
		}
	}
	nodeClient, err := keeper.NewNodeClient(config)
	if err != nil {
		return nil, err
	}
	leaseClient, err := leases.NewClient(leaseConfig, s.leaseNamespace)
	if err != nil {
		return nil, err
	}
	k := &keeper.Keeper{
		Nodes:    keeper.Nodes{Client: nodeClient}.List,
		Store:    &leases.Store{Client: leaseClient, Cluster: s.name},
		Budget:   s.budget,
		HoldDown: s.holdDown,
	}
	if s.agentPort > 0 {
		k.Up = keeper.AgentUp(uint16(s.agentPort))
	}
	for _, report := range s.reports {
		k.Reports = append(k.Reports, s.source(report))
	}
	return k, nil
}

// source returns the source of the reports of one terminator. report is a value of the flag
// -report.
func (s *settings) source(report string) keeper.Report {
	if url, client := httpSource(report); url != "" {
		return keeper.URL(url, s.name, client)
	}
	return keeper.File(report, s.name, s.maxAge)
}

// httpSource returns the URL of a report, and the HTTP client for this URL. A nil client means that
// package keeper makes the client. If the report is a file, the URL is "".
func httpSource(report string) (url string, client *http.Client) {
	if socket, ok := strings.CutPrefix(report, "unix:"); ok {
		var d net.Dialer
		return "http://localhost/report.json", &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		}}}
	}
	if strings.HasPrefix(report, "http://") || strings.HasPrefix(report, "https://") {
		return report, nil
	}
	return "", nil
}

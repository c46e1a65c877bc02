package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/report"
)

// settings are the values of the flags.
type settings struct {
	peers      []string
	rounds     int
	few, many  report.Size // open connections and known names
	atOnce     int         // number of new connections at the same time
	pings      int         // number of round trips at the same time
	phase      time.Duration
	bulk       int64 // bytes
	startLimit time.Duration
	limit      time.Duration
	routerCore int // -1 means the first available processor
	loadCore   int // -1 means the second one
	snirouter  string
	json       string
	quick      bool // a missing figure is an error
	hellos     bool // count named hellos, and measure nothing
	scaling    bool // measure at growing sizes
	paired     bool // measure in many short rounds, while all routers run
	other      string
	page       string
	from       string
}

var allPeers = []string{"nginx", "nginx-half-close", "haproxy", "sniproxy", "tcpproxy", "plain", "snirouter"}

// scalingPeers are the routers of Debian 12, 13 and testing, Traefik, and snirouter. The flag -quick
// leaves out Traefik.
var scalingPeers = []string{"nginx:bookworm", "nginx:trixie", "nginx:testing", "haproxy:bookworm", "haproxy:trixie", "haproxy:testing", slowPeer, "snirouter"}

// slowPeer is a router that takes minutes to build. Without -peers, only -scaling measures it.
const slowPeer = "traefik"

// ourCommand gives snirouter the settings that package peer gives to all routers: the same
// timeouts, no access log, and permission to connect to loopback.
const ourCommand = "{snirouter} -tls {listen} -hosts {hosts} -allow 127.0.0.0/8 -hello-timeout 5s -dial-timeout 5s -log-sample 0"

const (
	streams = 4  // number of connections in the bulk phase
	warmUp  = 64 // number of connections at the same time before the first measurement
)

func parse(args []string, out io.Writer) (settings, error) {
	s := settings{few: report.Size{Cores: 1, Open: 100, Hosts: 10}}
	f := flag.NewFlagSet("sniproxy", flag.ContinueOnError)
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprintln(out, "go run ./sniproxy -peers nginx,haproxy,snirouter -rounds 5 -json result.json")
		f.PrintDefaults()
	}
	peers := f.String("peers", strings.Join(allPeers, ","), "routers to compare; nginx:SUITE and haproxy:SUITE are those that make bench-scaling fetches from a suite of Debian")
	f.IntVar(&s.rounds, "rounds", 3, "number of rounds; the tables show medians")
	f.IntVar(&s.many.Open, "connections", 5000, "largest number of open connections")
	f.IntVar(&s.many.Hosts, "hosts", 100000, "largest number of known host names")
	f.IntVar(&s.atOnce, "at-once", 16, "new connections at the same time")
	f.IntVar(&s.pings, "pings", 1, "round trips at the same time")
	f.DurationVar(&s.phase, "time", time.Second, "duration of each measurement")
	bulk := f.Int64("bulk", 1024, "MiB of bulk transfer in each round")
	f.DurationVar(&s.startLimit, "start-limit", 30*time.Second, "time limit for the start of a router")
	f.DurationVar(&s.limit, "limit", 30*time.Minute, "time limit for the whole run")
	f.IntVar(&s.routerCore, "router-core", -1, "processor of the router; -1 means the first")
	f.IntVar(&s.loadCore, "load-core", -1, "processor of clients and backends; -1 means the second")
	f.StringVar(&s.snirouter, "snirouter", ourCommand,
		"command of snirouter: {snirouter} is the program built from examples/snirouter, {listen} its address, {hosts} its file of hosts")
	f.StringVar(&s.json, "json", "", "file that receives all figures")
	f.BoolVar(&s.quick, "quick", false, "one short round that checks that everything works; the figures are rough, and a missing one is an error")
	f.BoolVar(&s.hellos, "hellos", false, "count which hellos of real clients reach the right backend, and measure nothing else; with -quick, a hello that snirouter does not name is an error")
	f.BoolVar(&s.scaling, "scaling", false, "measure with growing numbers of processors, open connections and known host names; has other defaults: 5 rounds of 300ms a measurement in 10m30s, up to 8000 connections and 1000000 names, nginx and HAProxy of three suites of Debian")
	f.BoolVar(&s.paired, "paired", false, "run all routers at the same time, and measure one right after another in many short rounds; has other defaults: 150 rounds of 60ms a measurement, and the routers nginx, nginx-half-close, haproxy and snirouter")
	f.StringVar(&s.other, "other", "", "with -paired: command of another snirouter, such as one with a change that you want to try; {listen} and {hosts} as in -snirouter")
	f.StringVar(&s.page, "page", "", "with -scaling: page in Markdown that receives the tables between two comments; the chart is written into the same directory")
	f.StringVar(&s.from, "from", "", "with -scaling: take the figures from this file of -json, and measure nothing")
	if err := f.Parse(args); err != nil {
		return settings{}, err
	}
	set := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if s.scaling {
		sweep(&s, peers, set)
	}
	if s.paired {
		unlessSet(set, map[string]func(){
			"peers":  func() { *peers = "nginx,nginx-half-close,haproxy,snirouter" },
			"rounds": func() { s.rounds = 150 },
			"time":   func() { s.phase = 60 * time.Millisecond },
		})
	}
	if s.hellos && !set["peers"] { // both nginx read hellos in the same way
		*peers = strings.Replace(*peers, "nginx-half-close,", "", 1)
	}
	if s.quick {
		short(&s, peers, bulk, set)
	}
	s.peers, s.bulk = strings.Split(*peers, ","), *bulk<<20
	if f.NArg() > 0 {
		return settings{}, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return s, s.validate()
}

// sweep changes the settings for -scaling. It does not change settings that the user has set by a
// flag.
func sweep(s *settings, peers *string, set map[string]bool) {
	unlessSet(set, map[string]func(){
		"peers":       func() { *peers = strings.Join(scalingPeers, ",") },
		"rounds":      func() { s.rounds = 5 },
		"connections": func() { s.many.Open = 8000 },
		"hosts":       func() { s.many.Hosts = 1_000_000 },
		"time":        func() { s.phase = 300 * time.Millisecond },
		"limit":       func() { s.limit = 10*time.Minute + 30*time.Second },
		"start-limit": func() { s.startLimit = time.Minute },
	})
}

// The function "short" reduces the settings for -quick. It does not change settings that the user
// has set by a flag.
func short(s *settings, peers *string, bulk *int64, set map[string]bool) {
	unlessSet(set, map[string]func(){
		"peers":       func() { *peers = strings.ReplaceAll(*peers, slowPeer+",", "") },
		"rounds":      func() { s.rounds = 1 },
		"connections": func() { s.many.Open = 1000 },
		"hosts":       func() { s.many.Hosts = 10000 },
		"time": func() {
			s.phase = 300 * time.Millisecond
			if s.scaling { // it has many measurements
				s.phase = 100 * time.Millisecond
			}
		},
		"bulk":        func() { *bulk = 128 },
		"start-limit": func() { s.startLimit = 5 * time.Second },
		"limit": func() {
			if !s.hellos { // a browser may need a minute to start
				s.limit = time.Minute
			}
		},
	})
}

// unlessSet calls the functions of the flags that are not set.
func unlessSet(set map[string]bool, functions map[string]func()) {
	for name, change := range functions {
		if !set[name] {
			change()
		}
	}
}

func (s settings) validate() error {
	for _, p := range s.peers {
		name, suite, fetched := strings.Cut(p, ":")
		if !slices.Contains(allPeers, name) && name != slowPeer || fetched && (name != "nginx" && name != "haproxy" || suite == "" || suite != filepath.Base(suite)) {
			return fmt.Errorf("unknown peer %q; want some of %s", p, strings.Join(append(allPeers, slowPeer), ", "))
		}
	}
	switch {
	case s.scaling && s.hellos, s.paired && (s.scaling || s.hellos):
		return errors.New("only one of -scaling, -hellos and -paired is possible")
	case s.other != "" && !s.paired:
		return errors.New("-other needs -paired")
	case !s.scaling && (s.page != "" || s.from != ""):
		return errors.New("-page and -from need -scaling")
	case s.scaling && s.many.Open == s.few.Open:
		return fmt.Errorf("with -scaling, -connections must be above %d", s.few.Open)
	case s.rounds < 1, s.atOnce < 1, s.pings < 1, s.phase <= 0, s.startLimit <= 0, s.limit <= 0:
		return errors.New("-rounds, -at-once, -pings, -time, -start-limit and -limit must be above zero")
	case s.bulk < streams:
		return errors.New("-bulk must be at least 1")
	case s.many.Open < s.few.Open || s.many.Hosts < s.few.Hosts || s.many.Hosts > 1_000_000:
		return fmt.Errorf("-connections must be at least %d and -hosts from %d to 1000000", s.few.Open, s.few.Hosts)
	}
	return nil
}

// sizes returns the sizes to measure: numbers of open connections and of known host names. The size
// Idle has at most 2,000 connections, because some routers need six descriptors for each connection.
// On many machines, a process may have only 20,000 descriptors.
func (s settings) sizes() report.Sizes {
	return report.Sizes{
		Base:      s.few,
		Idle:      report.Size{Cores: 1, Open: min(s.many.Open, 2000), Hosts: s.few.Hosts},
		ManyOpen:  report.Size{Cores: 1, Open: s.many.Open, Hosts: s.few.Hosts},
		ManyHosts: report.Size{Cores: 1, Open: s.few.Open, Hosts: s.many.Hosts},
	}
}

// axes returns the sizes of -scaling on a machine with the given number of processors.
func (s settings) axes(cores int) report.Axes {
	return report.Axes{
		Cores: upTo(min(cores, 2), 1),
		Open:  upTo(s.many.Open, s.few.Open, 1000),
		Hosts: upTo(s.many.Hosts, s.few.Hosts, 1000, 100_000),
	}
}

// upTo returns the steps that are smaller than the argument "most", and then "most" itself.
func upTo(most int, steps ...int) (list []int) {
	for _, step := range steps {
		if step < most {
			list = append(list, step)
		}
	}
	return append(list, most)
}

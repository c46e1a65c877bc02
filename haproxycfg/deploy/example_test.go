package deploy_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
)

// web returns a configuration with one backend.
func web(servers ...string) *haproxycfg.Config {
	b := haproxycfg.Backend{Name: "web"}
	for _, s := range servers {
		b.Servers = append(b.Servers, haproxycfg.Server{Addr: netip.MustParseAddrPort(s)})
	}
	return &haproxycfg.Config{
		Frontends: []haproxycfg.Frontend{{
			Name: "http", Binds: []haproxycfg.Bind{{Address: "127.0.0.1:8080"}}, DefaultBackend: "web",
		}},
		Backends: []haproxycfg.Backend{b},
	}
}

func ExampleDir_Apply() {
	path, err := os.MkdirTemp("", "edge")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(path)
	// A real program also sets Check: deploy.Checker{}.Check, and
	// Reload: deploy.Reloader{Master: …, StateFile: …}.Reload.
	dir := &deploy.Dir{Path: path}
	for _, c := range []*haproxycfg.Config{
		web("10.0.0.1:31000"),
		web("10.0.0.1:31000"),
		web("10.0.0.1:31000", "10.0.0.2:31000"),
	} {
		changed, err := dir.Apply(context.Background(), c)
		fmt.Println(changed, err)
	}
	// Output:
	// true <nil>
	// false <nil>
	// true <nil>
}

func ExampleDiffFiles() {
	before, err := web("10.0.0.1:31000", "10.0.0.2:31000").Render("/etc/haproxy")
	if err != nil {
		panic(err)
	}
	after, err := web("10.0.0.1:31000", "10.0.0.3:31000").Render("/etc/haproxy")
	if err != nil {
		panic(err)
	}
	diff := deploy.DiffFiles(before, after)
	fmt.Print(diff)
	if diff.ServerShare() > 0.3 {
		fmt.Println("more than 30% of the servers at once")
	}
	// Output:
	// servers: 2 before, 2 after: 1 added, 1 removed, 0 altered (50.0% of those before)
	// ~ backend web
	//   - server 10.0.0.2:31000
	//   + server 10.0.0.3:31000
	// more than 30% of the servers at once
}

func ExampleCheckError() {
	err := &deploy.CheckError{
		Err: fmt.Errorf("exit status 1"),
		Diagnostics: []deploy.Diagnostic{{
			Severity: "ALERT", File: "haproxy.cfg", Line: 12,
			Text:   "'bind 0.0.0.0:443' : unable to stat SSL certificate",
			Source: "bind 0.0.0.0:443 ssl crt /etc/certs",
		}},
	}
	for _, d := range err.Alerts() {
		fmt.Printf("line %d: %s\n%s\n", d.Line, d.Text, d.Source)
	}
	// Output:
	// line 12: 'bind 0.0.0.0:443' : unable to stat SSL certificate
	// bind 0.0.0.0:443 ssl crt /etc/certs
}

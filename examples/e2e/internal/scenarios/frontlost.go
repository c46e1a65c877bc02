//go:build linux

package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

// discoveryPort is the port of the discovery service on the machine of the control plane.
const discoveryPort = 9720

var frontDiscovery = scenario.Scenario[*Env]{
	Name:  "frontdiscovery",
	About: "front proxies follow a discovery service; when it is gone, they go on with the last pods",
	Run: withFronts("discovered", frontPods, 0, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		address := netip.AddrPortFrom(f.Other.Addr, discoveryPort)
		discovery, err := f.Other.Start("discovery", "discovery", "-listen", address.String(), "-kubeconfig", f.kubeconfig)
		if err != nil {
			return err
		}
		defer discovery.Kill()
		front, err := f.start(ctx, "", "-discovery", "http://"+address.String())
		if err != nil {
			return err
		}
		load := f.load(ctx, front.Addr.String(), func(c *loadConfig) { c.Posts = 0 })
		defer load.Stop()
		from := time.Now()
		if err := f.addPod(ctx, f.Local); err != nil {
			return err
		}
		pods := f.pods(f.Local)
		added := pods[len(pods)-1]
		took, err := lab.Until(ctx, "a request to the new pod", patience, func(context.Context) error {
			if _, ok := load.First(from, func(r request) bool { return r.Answer.Pod == added.Name }); !ok {
				return fmt.Errorf("%s has got none", added.Name)
			}
			return nil
		}, front.Process, discovery)
		if err != nil {
			return err
		}
		report.Add(scenario.Row{What: "a new pod gets requests, through discovery", Took: took, Within: 10 * time.Second})
		discovery.Kill()
		// From here on, discovery does not run. So HAProxy must notice by itself that the pod below
		// ends.
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		added.Server.Kill()
		if err := pause(ctx, 10*time.Second); err != nil {
			return err
		}
		report.Add(f.row(load.Stop(), from, time.Time{}, "discovery is killed for 15 s, and a pod in this time: GET requests"))
		return nil
	}),
}

var frontZoneLost = scenario.Scenario[*Env]{
	Name:  "frontzonelost",
	About: "a zone is lost with its front proxies and pods: the other zone serves all clients",
	Run: withFronts("lost", frontPods/2, frontPods/2, func(ctx context.Context, f *Fronts, report *scenario.Report) error {
		here, err := f.start(ctx, "")
		if err != nil {
			return err
		}
		there, err := f.startOn(ctx, f.Other, "")
		if err != nil {
			return err
		}
		addr, err := f.balance(ctx, "roundrobin", []target{{here.Addr, here.Monitor.Port()}, {there.Addr, there.Monitor.Port()}})
		if err != nil {
			return err
		}
		load := f.load(ctx, addr, func(c *loadConfig) { c.Timeout = time.Second })
		defer load.Stop()
		if err := pause(ctx, 3*time.Second); err != nil {
			return err
		}
		from := time.Now()
		if err := f.Local.Unplug(); err != nil {
			return err
		}
		if err := pause(ctx, 12*time.Second); err != nil {
			return err
		}
		end := time.Now()
		log := load.Stop()
		if err := f.Local.Plug(); err != nil {
			return err
		}
		// Each client has one connection, and half of the connections lead through the front proxy
		// of the lost zone. Requests through the other front proxy do not fail, because it has sent
		// no request to the lost pods.
		report.Add(f.lossRow(log, from, end, zoneLossTime, 3*frontClients, "a zone is disconnected"))
		return nil
	}),
}

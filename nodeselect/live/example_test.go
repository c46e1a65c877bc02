package live_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/live"
)

// One Watcher follows one cluster. Start another for each further cluster.
func ExampleWatcher() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cluster := &live.Watcher{
		Config:         &rest.Config{Host: "https://10.0.0.1:6443"}, // as clientcmd or rest.InClusterConfig gives it
		LocalEndpoints: true,
		Logger:         slog.Default(),
	}
	cluster.SetRefs([]nodeselect.Ref{{Namespace: "media", Service: "tracks", Port: "http"}})
	err := cluster.Run(ctx, func(s live.Snapshot) {
		if !s.Synced {
			return // s.Err states the reason; the cluster has not been listed yet
		}
		for _, target := range s.Selection.Targets {
			fmt.Println(target.Ref, target.NodePort, target.Nodes)
		}
	})
	fmt.Println(err)
}

package hashring_test

import (
	"fmt"
	"log"
	"slices"

	"github.com/headgate/headgate/hashring"
)

func cluster(n int) []hashring.Node {
	nodes := make([]hashring.Node, n)
	for i := range nodes {
		nodes[i] = hashring.Node{
			Name: fmt.Sprintf("10.0.0.%d", i+1),
			Zone: string(rune('a' + i%3)),
		}
	}
	return nodes
}

func mustNew(nodes ...hashring.Node) *hashring.Ring {
	ring, err := hashring.New(nodes...)
	if err != nil {
		log.Fatal(err)
	}
	return ring
}

func names(nodes []hashring.Node) (names []string) {
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names
}

func ExampleRing_Top() {
	ring, err := hashring.New(cluster(100)...)
	if err != nil {
		log.Fatal(err)
	}
	for _, service := range []string{"media/tracks", "media/playlists"} {
		fmt.Println(service, names(ring.Top(service, 3)))
	}
	// Output:
	// media/tracks [10.0.0.56 10.0.0.3 10.0.0.61]
	// media/playlists [10.0.0.8 10.0.0.77 10.0.0.31]
}

// A new node replaces an old one. Each service of the old node gets another node in its place. Some
// services get the new node in place of another one. All other nodes of the services stay.
func Example_replaceNode() {
	nodes := cluster(100)
	before := mustNew(nodes...)
	nodes[0].Name = "10.0.0.200" // was 10.0.0.1
	after := mustNew(nodes...)

	var had, changed, nodesMoved int
	for i := range 1000 {
		service := fmt.Sprintf("service-%d", i)
		old, now := names(before.Top(service, 5)), names(after.Top(service, 5))
		if slices.Contains(old, "10.0.0.1") {
			had++
		}
		lost := 0
		for _, name := range old {
			if !slices.Contains(now, name) {
				lost++
			}
		}
		if lost > 0 {
			changed++
			nodesMoved += lost
		}
	}
	fmt.Println(had, "of 1000 services had the node")
	fmt.Println(changed, "services changed,", nodesMoved, "nodes in all")
	// Output:
	// 50 of 1000 services had the node
	// 106 services changed, 106 nodes in all
}

// A node with 16 cores is chosen four times as often as a node with 4 cores.
func ExampleNode_weight() {
	ring := mustNew(
		hashring.Node{Name: "small-1", Weight: 4},
		hashring.Node{Name: "small-2", Weight: 4},
		hashring.Node{Name: "large-1", Weight: 16},
	)
	count := map[string]int{}
	for i := range 6000 {
		for _, n := range ring.Top(fmt.Sprintf("service-%d", i), 1) {
			count[n.Name]++
		}
	}
	fmt.Println(count)
	// Output:
	// map[large-1:3959 small-1:985 small-2:1056]
}

// Each service gets seven nodes from three zones: two or three from each. The zone that contributes
// three nodes differs between services.
func ExampleRing_Spread() {
	ring := mustNew(cluster(100)...)
	for _, service := range []string{"media/tracks", "media/playlists", "media/likes"} {
		perZone := map[string]int{}
		for _, n := range ring.Spread(service, 7) {
			perZone[n.Zone]++
		}
		fmt.Println(service, perZone)
	}
	// Output:
	// media/tracks map[a:2 b:3 c:2]
	// media/playlists map[a:3 b:2 c:2]
	// media/likes map[a:3 b:2 c:2]
}

// This program tries the nodes of a service in their order, until it finds a suitable one.
func ExampleRing_Ranked() {
	full := map[string]bool{"10.0.0.3": true}
	ring := mustNew(cluster(30)...)
	for node := range ring.Ranked("media/tracks") {
		if full[node.Name] {
			fmt.Println(node.Name, "is full")
			continue
		}
		fmt.Println("chose", node.Name)
		break
	}
	// Output:
	// 10.0.0.3 is full
	// chose 10.0.0.30
}

package statuspage

import (
	"time"

	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/shift"
)

// View is the state of a terminator at one moment. The Handler changes nothing in a View.
type View struct {
	Now time.Time
	// Faults say why the latest routes and clusters are not in force, or why they might not be, one
	// sentence each. Notes say other things that an operator should know, such as that another
	// process leads.
	Faults, Notes []string
	// Clusters are the clusters, in the order in which the page shows them.
	Clusters []Cluster
	// Known is true if Routes, Report and Problems are known. They are unknown before the first
	// attempt to apply a configuration, and while another process leads.
	Known bool
	// Routes are the routes in force. Report describes the configuration in force.
	Routes []routes.Route
	Report kube.Report
	// Problems are the problems of the latest declarations, clusters and certificates.
	Problems []kube.Problem
	// Servers is the number of servers in the configuration in force.
	Servers int
	// Refused is the latest change, if it was refused or could not be applied. It is nil if the
	// latest change is in force. If MayForce is true, a limit has refused the change, and POST
	// /force allows it. If MayForce is false, the change could not be applied, for example because
	// HAProxy rejects it.
	Refused  *kube.Changes
	MayForce bool
	// Allow says how to allow the refused change if Handler.Command returns no command.
	Allow string
	// Hold describes the hold, which keeps earlier routes in force; nil means none. Pending says
	// what the latest declarations would change without the hold; "" means nothing.
	Hold    *kube.Held
	Pending string
	// Shifts are the routes whose requests move from one cluster to another.
	Shifts []shift.Shift
	// Journal are the newest changes, the newest first. JournalTotal is the number of all changes in
	// the journal. Without a journal, HasJournal is false.
	Journal      []journal.Entry
	JournalTotal int
	HasJournal   bool
}

// Cluster is a cluster on the page.
type Cluster struct {
	Name         string
	Connectivity kube.Connectivity
	// Nodes and Services are the numbers of the cluster's nodes and services, as far as known.
	Nodes, Services int
}

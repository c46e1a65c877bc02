package controller

import (
	"context"
	"errors"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
	"github.com/headgate/headgate/nodeselect/endpoints/httpapi"
	"github.com/headgate/headgate/nodeselect/manifest"
)

// Discovery is a source that reads the pods from a server of the discovery API.
type Discovery struct {
	Client  *httpapi.Client
	Service nodeselect.Ref
}

// Follow implements Source.
func (d Discovery) Follow(ctx context.Context, changed func(Update)) error {
	return d.Client.Follow(ctx, d.Service, func(a httpapi.Answer) {
		changed(Update{Known: a.Known, Pods: a.Pods, Since: outdatedSince(a, time.Now()), Err: a.Err})
	})
}

// outdatedSince returns Update.Since for an answer. The argument "now" is the time at which the
// answer arrives. If the answer has an error, a.Since is the time at which the servers began to
// fail, and a.Age is the age of the pods at that time. Without an error, a.Age is the age of the
// pods now.
func outdatedSince(a httpapi.Answer, now time.Time) time.Time {
	switch {
	case a.Err != nil:
		return a.Since.Add(-a.Age)
	case a.Age > 0:
		return now.Add(-a.Age)
	}
	return time.Time{}
}

// Directory is a source that reads the EndpointSlices in the files of a directory. It uses each
// list without a check for lost objects, because a person writes the files: if the directory is
// empty, there are no pods.
type Directory struct {
	Path    string
	Service nodeselect.Ref
}

// Follow implements Source.
func (d Directory) Follow(ctx context.Context, changed func(Update)) error {
	return manifest.WatchEndpointSlices(ctx, d.Path, func(list []*discoveryv1.EndpointSlice, problems []nodeselect.Problem) {
		changed(PodsOf(endpoints.Group(list, nodeselect.AddressPolicy{}), d.Service, problems...))
	})
}

// PodsOf returns an Update with the pods of a service port. Its Err joins all problems that are not
// warnings.
func PodsOf(services endpoints.Services, ref nodeselect.Ref, problems ...nodeselect.Problem) Update {
	pods, more := services.Pods(ref)
	u := Update{Known: true, Pods: pods}
	for _, list := range [][]nodeselect.Problem{problems, more} {
		for _, p := range list {
			if !p.Warning {
				u.Err = errors.Join(u.Err, p)
			}
		}
	}
	return u
}

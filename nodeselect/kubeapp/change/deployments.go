package change

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// deployments adds a Finding for each harmful change of a Deployment, or of a Service that selects
// the pods of a Deployment.
func (k *checker) deployments() {
	for _, d := range k.deploys {
		if d.old == nil || d.new == nil || equality.Semantic.DeepEqual(d.old.Spec.Selector, d.new.Spec.Selector) {
			continue
		}
		k.findings = append(k.findings, Finding{
			Kind: SelectorChanged, Object: "Deployment " + d.new.Namespace + "/" + d.new.Name, Field: "spec.selector",
			Change: fmt.Sprintf("%s → %s", metav1.FormatLabelSelector(d.old.Spec.Selector), metav1.FormatLabelSelector(d.new.Spec.Selector)),
			Effect: "The API server refuses the change, because the selector of a Deployment is immutable. If somebody deletes the Deployment to create it again, all its pods end at once.",
			Instead: "Keep the selector. To use another one, create a second Deployment with another name whose pods also have the labels that the Service selects. " +
				"When its pods are ready, delete the first Deployment.",
		})
	}
	for _, p := range k.services {
		if p.new != nil && k.touched[p.new.Namespace] && len(p.new.Spec.Selector) > 0 {
			k.pods(p)
		}
	}
}

// pods adds a Finding if connections to the Service fail after the change, because the Service
// selects no pod, or because its target port is missing in the pods that it selects.
func (k *checker) pods(p pair[corev1.Service]) {
	var before, after []*appsv1.Deployment
	for _, d := range k.deploys {
		if selects(p.old, d.old) {
			before = append(before, d.old)
		}
		if selects(p.new, d.new) {
			after = append(after, d.new)
		}
	}
	var routes []string
	for _, u := range k.usesOf(p.new) {
		routes = append(routes, u.Route)
	}
	if len(before) > 0 && len(after) == 0 {
		k.add(p, Finding{
			Kind: NoPods, Field: "spec.selector", Change: labels.FormatLabels(p.new.Spec.Selector) + " selects the pods of no Deployment", Routes: routes, Allow: []string{string(NoPods)},
			Effect:  "The Service has no pods, so all its connections fail.",
			Instead: "Give the pods of a Deployment the labels that the Service selects, and change the selector of the Service only when these pods are ready.",
		})
		return
	}
	for i, x := range p.new.Spec.Ports {
		if x.TargetPort.Type != intstr.String {
			continue
		}
		lacking := without(after, x)
		if lacking == nil {
			continue
		}
		if had := portNamed(p.old, x); had != nil && without(before, *had) != nil {
			continue // not because of this change
		}
		k.add(p, Finding{
			Kind: TargetPortMissing, Field: fmt.Sprintf("spec.ports[%s].targetPort", portsOf(p.new)[i].label()), Routes: routes, Allow: []string{string(TargetPortMissing)},
			Change:  fmt.Sprintf("the pods of Deployment %s have no port %s", lacking.Name, x.TargetPort.StrVal),
			Effect:  "Kubernetes sends no connections of this port to these pods.",
			Instead: "Give a port of the containers this name, or change the target port of the Service after the rollout of the Deployment.",
		})
	}
}

// selects reports whether a Service selects the pods of a Deployment.
func selects(s *corev1.Service, d *appsv1.Deployment) bool {
	return s != nil && d != nil && s.Namespace == d.Namespace && len(s.Spec.Selector) > 0 &&
		labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels))
}

// portNamed returns the port of s that has the same name as the port "like", or nil.
func portNamed(s *corev1.Service, like corev1.ServicePort) *corev1.ServicePort {
	if s == nil {
		return nil
	}
	for i := range s.Spec.Ports {
		if s.Spec.Ports[i].Name == like.Name {
			return &s.Spec.Ports[i]
		}
	}
	return nil
}

// The function "without" returns the first Deployment whose containers lack the named target port,
// or nil.
func without(deployments []*appsv1.Deployment, p corev1.ServicePort) *appsv1.Deployment {
	if p.TargetPort.Type != intstr.String {
		return nil
	}
	for _, d := range deployments {
		found := false
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, x := range c.Ports {
				found = found || x.Name == p.TargetPort.StrVal
			}
		}
		if !found {
			return d
		}
	}
	return nil
}

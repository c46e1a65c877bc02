package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"

	"github.com/headgate/headgate/examples/internal/cli/clitest"
	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

// The scenario kubeapp of examples/e2e runs the expressions of the policy on a real API server.
func TestPolicy(t *testing.T) {
	var policy admissionv1.ValidatingAdmissionPolicy
	var binding admissionv1.ValidatingAdmissionPolicyBinding
	clitest.Manifest(t, "kubernetes/policy.yaml", &policy, &binding)
	require.Equal(t, policy.Name, binding.Spec.PolicyName)
	require.Equal(t, []admissionv1.ValidationAction{admissionv1.Deny}, binding.Spec.ValidationActions)
	require.Equal(t, admissionv1.Fail, *policy.Spec.FailurePolicy)
	require.Equal(t, []admissionv1.OperationType{admissionv1.Update, admissionv1.Delete}, policy.Spec.MatchConstraints.ResourceRules[0].Operations)
	require.Equal(t, []string{"services"}, policy.Spec.MatchConstraints.ResourceRules[0].Resources)
	for _, user := range []string{"namespace-controller", "generic-garbage-collector"} {
		require.Contains(t, policy.Spec.MatchConditions[0].Expression, "'system:serviceaccount:kube-system:"+user+"'")
	}
	for _, v := range policy.Spec.Variables {
		if v.Name == "allowed" {
			require.Contains(t, v.Expression, "'"+change.Annotation+"'")
		}
	}
	require.Contains(t, policy.Spec.Validations[0].MessageExpression, change.Annotation)
}

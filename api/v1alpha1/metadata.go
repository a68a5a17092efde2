// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

const (
	// AnnotationRequestedTest asks for a test event: "TYPE" or "TYPE/TOKEN", where the token, 64 characters at most,
	// makes a request distinct from the one before.
	AnnotationRequestedTest = "webhooks.gary.club/requested-test"

	// LabelCredentials marks, with the value "true", a Secret that endpoints of its namespace may refer to. Without it,
	// whoever may create endpoints but not read Secrets could have any Secret sent to a URL of theirs.
	LabelCredentials = "webhooks.gary.club/credentials"

	// LabelEndpoint is on each DeliveryAttempt: the UID of its endpoint.
	LabelEndpoint = "webhooks.gary.club/endpoint-uid"

	// ConfigMapCA is the ConfigMap, in each namespace with endpoints, that holds the manager's CA under KeyCA.
	ConfigMapCA = "webhooks-ca"
	// KeyCA is the entry of a CA bundle in PEM form.
	KeyCA = "ca.crt"

	// KeySigningKey and KeyPreviousSigningKey are the entries of a signing Secret: whsec_ and base64. The second is there
	// during rotation only.
	KeySigningKey         = "signing-key"
	KeyPreviousSigningKey = "previous-signing-key"

	// TokenAudience is the audience of the tokens that dispatchers show to the manager.
	TokenAudience = "webhooks.gary.club"
)

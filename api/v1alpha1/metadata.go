// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

const (
	// AnnotationRequestedTest asks for a test event: "TYPE" or "TYPE/TOKEN", where the token makes a request distinct
	// from the one before, for example a timestamp. The value that was handled last stands in status.test.requested.
	AnnotationRequestedTest = "webhooks.gary.club/requested-test"
	// MaxRequestedTestToken bounds the token of AnnotationRequestedTest, in characters.
	MaxRequestedTestToken = 64

	// LabelCredentials marks, with the value "true", a Secret that endpoints of its namespace may refer to. Without it,
	// whoever may create endpoints but not read Secrets could have any Secret sent to a URL of theirs.
	LabelCredentials = "webhooks.gary.club/credentials"

	// LabelEndpoint is on each DeliveryAttempt: the UID of its endpoint. A name would not do, since it may be longer
	// than a label's 63 characters. What stands in the spec is selected by fields instead.
	LabelEndpoint = "webhooks.gary.club/endpoint-uid"

	// ConfigMapCA is the ConfigMap, in each namespace with endpoints, that holds the manager's CA under KeyCA.
	ConfigMapCA = "webhooks-ca"
	// KeyCA is the entry of a CA bundle in PEM form.
	KeyCA = "ca.crt"

	// KeySigningKey is the entry of a signing Secret that holds the key: whsec_ and base64.
	KeySigningKey = "signing-key"
	// KeyPreviousSigningKey is the entry of the key before, during a rotation.
	KeyPreviousSigningKey = "previous-signing-key"

	// TokenAudience is the audience of the tokens that dispatchers show to the manager.
	TokenAudience = "webhooks.gary.club"
)

// There is no finalizer: a generated signing key with deletionPolicy Delete has the endpoint as its owner, and so has
// each DeliveryAttempt, so the garbage collector does what a finalizer would.

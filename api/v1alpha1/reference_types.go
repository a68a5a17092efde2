// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// All references stay within the object's namespace. A Secret that an endpoint refers to must carry the label
// webhooks.gary.club/credentials: "true": see LabelCredentials for why.

// SecretReference names a Secret in the endpoint's namespace.
type SecretReference struct {
	// name of the Secret, in the endpoint's own namespace. It must carry the label webhooks.gary.club/credentials: "true".
	// Reason SecretNotFound or SecretNotLabelled shows what is missing. Example: zapier-signing.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// SecretKeyReference names one entry of a Secret in the endpoint's namespace.
type SecretKeyReference struct {
	// name of the Secret, in the endpoint's own namespace. It must carry the label webhooks.gary.club/credentials: "true".
	// Accepted=False with SecretNotFound or SecretNotLabelled (URLSecretNotFound for the URL's) shows what is missing.
	// Example: zapier.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// key of the entry in the Secret's data. Accepted=False/SecretKeyNotFound (URLSecretKeyNotFound for the URL's) shows
	// that the Secret has no such entry. Example: auth.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// URLSource reads the URL from elsewhere.
type URLSource struct {
	// secretKeyRef names the Secret entry that holds the URL. White space around it is ignored. The rules of spec.url
	// hold, and Accepted=False/InvalidURL says when they are broken; nothing of the URL but its host is ever shown.
	// Example: {name: slack-relay, key: url}.
	// +required
	SecretKeyRef SecretKeyReference `json:"secretKeyRef"`
}

// HeaderValueSource reads a header's value from elsewhere.
type HeaderValueSource struct {
	// secretKeyRef names the Secret entry that holds the value. White space around it is ignored.
	// Accepted=False/InvalidHeader says when it has line breaks or other control characters.
	// Example: {name: crm, key: authorization}.
	// +required
	SecretKeyRef SecretKeyReference `json:"secretKeyRef"`
}

// CASecretReference names the Secret entry with a CA bundle.
type CASecretReference struct {
	// name of the Secret, in the endpoint's own namespace. It must carry the label webhooks.gary.club/credentials: "true".
	// Accepted=False with SecretNotFound or SecretNotLabelled shows what is missing. Example: crm-ca.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// key of the entry with one or more certificates in PEM form. Default ca.crt. Accepted=False/SecretKeyNotFound shows
	// that the Secret has no such entry, Accepted=False/InvalidTLS that it holds no certificates. Example: bundle.pem.
	// +optional
	// +kubebuilder:default=ca.crt
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// EndpointReference names a WebhookEndpoint of the same namespace.
type EndpointReference struct {
	// name of the WebhookEndpoint, in the same namespace. Example: zapier-sheets.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

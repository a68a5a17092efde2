// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// The conditions of a WebhookEndpoint. Reconciling and Stalled follow kstatus: they are present only while true, and
// never both.
const (
	// ConditionReady summarises: accepted, signed, and answered since the last change.
	ConditionReady = "Ready"
	// ConditionAccepted: the URL, its address, its certificate and everything it refers to are in order.
	ConditionAccepted = "Accepted"
	// ConditionSigningKeyReady: there is a valid signing key.
	ConditionSigningKeyReady = "SigningKeyReady"
	// ConditionTestDelivered: the latest test event was answered as it should be.
	ConditionTestDelivered = "TestDelivered"
	// ConditionDelivering: the latest real delivery succeeded.
	ConditionDelivering = "Delivering"
	// ConditionReconciling is present while the controller works towards the current generation.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is present when only a change of the spec can help.
	ConditionStalled = "Stalled"
)

// ConditionSucceeded is the condition of a DeliveryAttempt: Unknown while it is active, as for any bounded object. Its
// reason is Pending, Retrying, Delivered, the outcome of the last attempt, or one of the delivery reasons below.
const ConditionSucceeded = "Succeeded"

// Reasons of Ready.
const (
	ReasonReady                 = "Ready"                 // Ready=True
	ReasonSuspended             = "Suspended"             // Ready=False, Delivering=False: spec.suspend
	ReasonNotAccepted           = "NotAccepted"           // Ready=False: see Accepted
	ReasonSigningKeyMissing     = "SigningKeyMissing"     // Ready=False: see SigningKeyReady
	ReasonTestPending           = "TestPending"           // Ready=False: the test event is on its way
	ReasonTestFailed            = "TestFailed"            // Ready=False: see TestDelivered; deliveries go on
	ReasonWaitingForDispatchers = "WaitingForDispatchers" // Ready=False: dispatchers take the new revision
)

// Reasons of Accepted.
const (
	ReasonAccepted             = "Accepted"             // Accepted=True
	ReasonInspecting           = "Inspecting"           // Accepted=Unknown: the address is being looked at
	ReasonInvalidURL           = "InvalidURL"           // Accepted=False: the URL in the Secret breaks the rules of spec.url
	ReasonSecretNotFound       = "SecretNotFound"       // Accepted=False, SigningKeyReady=False
	ReasonSecretNotLabelled    = "SecretNotLabelled"    // Accepted=False, SigningKeyReady=False
	ReasonSecretKeyNotFound    = "SecretKeyNotFound"    // Accepted=False, SigningKeyReady=False
	ReasonInvalidHeader        = "InvalidHeader"        // Accepted=False: a header value in a Secret has control characters
	ReasonInvalidTLS           = "InvalidTLS"           // Accepted=False: CA bundle or client certificate cannot be read
	ReasonHostNotFound         = "HostNotFound"         // Accepted=False: DNS has no address; deliveries are attempted
	ReasonAddressRefused       = "AddressRefused"       // Accepted=False: a private or special address; deliveries are held
	ReasonCertificateExpired   = "CertificateExpired"   // Accepted=False
	ReasonCertificateUntrusted = "CertificateUntrusted" // Accepted=False
	ReasonTLSFailed            = "TLSFailed"            // Accepted=False: the handshake failed otherwise
)

// Reasons of SigningKeyReady.
const (
	ReasonGenerated         = "Generated"         // SigningKeyReady=True: the manager made the key
	ReasonReferenced        = "Referenced"        // SigningKeyReady=True: spec.signing.secretRef
	ReasonInvalidSigningKey = "InvalidSigningKey" // SigningKeyReady=False
)

// Reasons of TestDelivered, beside the attempt outcomes.
const (
	ReasonDelivered    = "Delivered"    // TestDelivered=True
	ReasonPending      = "Pending"      // TestDelivered=Unknown
	ReasonNotRequested = "NotRequested" // TestDelivered=Unknown: spec.test.when is OnRequest
	ReasonUnknownEvent = "UnknownEvent" // TestDelivered=False: the requested type does not exist
)

// Reasons of Delivering.
const (
	ReasonDelivering      = "Delivering"      // Delivering=True
	ReasonNoDeliveriesYet = "NoDeliveriesYet" // Delivering=Unknown
	ReasonFailing         = "Failing"         // Delivering=False: the latest delivery failed
	ReasonGone            = "Gone"            // Delivering=False: answered 410; held until a change or a good test
	ReasonHeld            = "Held"            // Delivering=False: see Accepted and SigningKeyReady
)

// Reasons of Succeeded, beside the attempt outcomes.
const (
	ReasonRetrying         = "Retrying"         // Succeeded=Unknown
	ReasonDeadlineExceeded = "DeadlineExceeded" // Succeeded=False
	ReasonQueueFull        = "QueueFull"        // Succeeded=False: the endpoint's share of the queue was full
	ReasonQueueLost        = "QueueLost"        // Succeeded=False: the queue's disk is gone
	ReasonEndpointDeleted  = "EndpointDeleted"  // Succeeded=False
)

//! What a hub says about itself, asked at its own door.

use jembatan::wire::v1::{
    self, attachment_service_client::AttachmentServiceClient,
    enrolment_service_client::EnrolmentServiceClient,
};
use tonic::{Code, transport::Channel};

use crate::support::World;

/// Scenario: a hub with a policy of its own is asked for it; then for the two
/// services that are reserved.
/// Guarantee: the policy is told as it was set, with its version and date of
/// effect; what is reserved answers UNIMPLEMENTED.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_tells_its_policy_and_what_it_does_not_serve() {
    let mut world = World::new();
    let file = world.directory.path().join("hub.toml");
    let policy = r#"
[policy]
events_per_complaint = 77
attachments_per_event = 3
version = "2026-2"
effective_on = "2026-11-24"
"#;
    let text = std::fs::read_to_string(&file).unwrap() + policy;
    std::fs::write(&file, text).unwrap();
    world.hub.restart();

    let mut directory = world.hub.directory().await;
    let told = directory.get_policy(v1::GetPolicyRequest {}).await.unwrap();
    let told = told.into_inner();
    assert_eq!(told.limits.unwrap().events_per_complaint, 77);
    assert_eq!(told.attachments_per_event, 3);
    assert_eq!(told.attachment_bytes, 5_242_880);
    assert_eq!(
        (&*told.version, &*told.effective_on),
        ("2026-2", "2026-11-24")
    );

    let uri = format!("http://{}", world.hub.grpc);
    let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
    let asked = v1::GetAttachmentRequest::default();
    let answer = AttachmentServiceClient::new(channel.clone())
        .get_attachment(asked)
        .await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    let answer = EnrolmentServiceClient::new(channel)
        .join(v1::JoinRequest::default())
        .await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
}

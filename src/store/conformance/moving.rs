//! An institution that another party reads for from now on.

use crate::{
    domain::{EventBody, Institution, InstitutionCode, Party, PartyId, PartyMode, RoutingRule},
    store::{DirectoryChange, HubStore, StoreError},
};

use super::world::{Engine, World, at, city, event, filing, national, province, registered};

/// The city's institution, reached through this party.
pub(crate) fn read_by(party: &PartyId) -> Institution {
    Institution {
        code: InstitutionCode::parse("pemda-33.74").unwrap(),
        name: String::new(),
        parent: None,
        party: party.clone(),
        region: None,
        enabled: true,
    }
}

async fn told(hub: &dyn HubStore, party: &PartyId) -> u64 {
    hub.heads(party).await.unwrap().deliveries
}

/// Scenario: the city's institution, with more open complaints than one page,
/// is reached through the national party from now on; the same registration
/// comes again; then the origin goes on with one of the complaints.
/// Guarantee: the new reader gets each of them with its whole history, once,
/// without waiting for their next event; nobody is an orphan; what comes later
/// reaches the new reader and no longer the old one.
pub(super) async fn a_new_reader_gets_what_is_open(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let filings: Vec<_> = (0..250)
        .map(|n| filing(&province(), &format!("M-{n}"), "isi", None))
        .collect();
    let first = filings[0].clone();
    world.province.submit(filings, at(1)).await.unwrap();
    world.carry_all().await;
    let started = EventBody::HandlingStarted {
        unit: "DPU".to_owned(),
    };
    let started = event(&city(), &first, "m-1", started);
    world.city.submit(vec![started], at(2)).await.unwrap();
    world.carry_all().await;
    let hub = &*world.hub;
    assert_eq!(told(hub, &national()).await, 0);

    hub.put_institution(read_by(&national())).await.unwrap();
    assert_eq!(told(hub, &national()).await, 251, "each revision once");
    hub.put_institution(read_by(&national())).await.unwrap();
    hub.retell().await.unwrap();
    assert_eq!(told(hub, &national()).await, 251, "and not again");
    assert_eq!(hub.orphans().await.unwrap(), Vec::new());

    let before = told(hub, &city()).await;
    let replied = EventBody::ReporterReplied {
        attachments: Vec::new(),
    };
    let replied = event(&province(), &first, "m-2", replied);
    world.province.submit(vec![replied], at(3)).await.unwrap();
    world.carry_up(&province(), &world.province).await;
    assert_eq!(told(hub, &national()).await, 252);
    assert_eq!(told(hub, &city()).await, before, "it is relieved");
}

/// Scenario: the city's party is disabled while complaints are open at its
/// institution; the origin goes on with each of them, more than once. Then the
/// party is enabled again; and its registration comes once more as it stands.
/// Guarantee: it is told at once what it has not had, each revision once,
/// without waiting for the next event; while it is disabled it is told nothing
/// but what relieves it.
pub(super) async fn a_party_that_is_back_gets_what_it_missed(engine: &dyn Engine) {
    const COMPLAINTS: u64 = 3;
    let world = World::new(engine).await;
    let filings: Vec<_> = (0..COMPLAINTS)
        .map(|n| filing(&province(), &format!("B-{n}"), "isi", None))
        .collect();
    let filed = filings.clone();
    world.province.submit(filings, at(1)).await.unwrap();
    world.carry_all().await;
    let hub = &*world.hub;
    let the_city = |enabled| Party {
        enabled,
        ..registered(city(), PartyMode::Stream)
    };
    hub.put_party(the_city(false)).await.unwrap();
    let before = told(hub, &city()).await;
    for round in 0..3 {
        let replies = filed.iter().enumerate().map(|(n, complaint)| {
            let replied = EventBody::ReporterReplied {
                attachments: Vec::new(),
            };
            event(&province(), complaint, &format!("b-{n}-{round}"), replied)
        });
        let replies = replies.collect();
        world.province.submit(replies, at(2 + round)).await.unwrap();
        world.carry_up(&province(), &world.province).await;
    }
    assert_eq!(
        told(hub, &city()).await,
        before + COMPLAINTS,
        "it is relieved"
    );
    hub.put_party(the_city(true)).await.unwrap();
    let missed = 2 * COMPLAINTS;
    let after = told(hub, &city()).await;
    assert_eq!(after, before + COMPLAINTS + missed, "each revision once");
    hub.put_party(the_city(true)).await.unwrap();
    hub.retell().await.unwrap();
    assert_eq!(told(hub, &city()).await, after, "and not again");
    assert_eq!(hub.orphans().await.unwrap(), Vec::new());
}

/// Scenario: a change of the directory with a new party, another reader of triage
/// and an institution of a party that nobody knows; one with a rule for an
/// institution that nobody knows; then one that fits.
/// Guarantee: of the first two nothing is kept, no journal has begun; of the third
/// all is.
pub(super) async fn a_change_of_the_directory_is_one(engine: &dyn Engine) {
    let world = World::new(engine).await;
    let hub = &*world.hub;
    let new = PartyId::parse("kota-baru").unwrap();
    let parties = vec![registered(new.clone(), PartyMode::Stream)];
    let before = hub.registry().borrow().clone();
    let of_nobody = DirectoryChange {
        parties: parties.clone(),
        institutions: vec![read_by(&PartyId::parse("kota-lain").unwrap())],
        national: Some(city()),
        ..DirectoryChange::default()
    };
    let to_nowhere = RoutingRule {
        region: None,
        category: None,
        institution: InstitutionCode::parse("dinas-lain").unwrap(),
    };
    let without_institution = DirectoryChange {
        parties: parties.clone(),
        policy: Some((Vec::new(), vec![to_nowhere])),
        ..DirectoryChange::default()
    };
    for unfit in [of_nobody, without_institution] {
        let refused = hub.change_directory(unfit).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid(_))),
            "{refused:?}"
        );
        assert_eq!(*hub.registry().borrow(), before);
        assert_eq!(hub.heads(&new).await.unwrap().epoch, 0, "nothing began");
    }
    let fits = DirectoryChange {
        parties,
        institutions: vec![read_by(&new)],
        national: Some(city()),
        ..DirectoryChange::default()
    };
    hub.change_directory(fits).await.unwrap();
    let directory = hub.registry().borrow().directory.clone();
    let code = InstitutionCode::parse("pemda-33.74").unwrap();
    assert_eq!(directory.reader_of(&code), Some(&new));
    assert_eq!(directory.national, Some(city()));
    assert!(hub.heads(&new).await.unwrap().epoch > 0);
}

//! `--stay`: a partner at home for whoever writes a client.

use crate::wire::v1;

use super::{
    invite::invite,
    robot::Desk,
    story::Cast,
    world::{CITY, NATIONAL, PROVINCE, SPARE, World},
};

/// Says how to connect, and plays the three desks until it is dropped, which
/// the signal does.
pub(super) async fn stay(world: &World, cast: &mut Cast) -> anyhow::Result<()> {
    let Cast {
        nation,
        province,
        city,
    } = cast;
    let filed = nation.file(for_the_visitor()).await?;
    let mut national_desk = Desk::open(nation, NATIONAL).await?;
    national_desk.follow(&filed.tracking_id);
    let province_desk = Desk::open(province, PROVINCE).await?;
    let city_desk = Desk::open(city, CITY).await?;
    invite(world)?;
    tokio::join!(national_desk.work(), province_desk.work(), city_desk.work());
    Ok(())
}

/// Something to handle: a client has to answer too.
fn for_the_visitor() -> v1::NewComplaint {
    v1::NewComplaint {
        reference: "SP4N-untuk-mitra".to_owned(),
        title: "Pohon tumbang menutup jalan".to_owned(),
        body: "Pohon tumbang sejak tadi malam, jalan tidak bisa dilewati.".to_owned(),
        channel: "web".to_owned(),
        handling: v1::Handling::Addressed as i32,
        addressed_to: SPARE.to_owned(),
        ..v1::NewComplaint::default()
    }
}

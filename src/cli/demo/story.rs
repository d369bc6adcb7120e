//! Four complaints from beginning to end, and one that is sent twice.

use anyhow::Context as _;

use crate::{
    cli::records::Record,
    wire::v1::{self, new_event::Body},
};

use super::{
    people::Person,
    tell::Teller,
    world::{CITY, NATIONAL, PROVINCE, World},
};

/// Who acts.
pub(super) struct Cast {
    pub(super) nation: Person,
    pub(super) province: Person,
    pub(super) city: Person,
}

impl Cast {
    pub(super) async fn meet(world: &World) -> anyhow::Result<Self> {
        Ok(Self {
            nation: Person::new(NATIONAL, world.hub.gateway().await?),
            province: Person::new(PROVINCE, world.province.gateway().await?),
            city: Person::new(CITY, world.city.gateway().await?),
        })
    }
}

fn record<'a>(records: &'a [Record], reference: &str) -> anyhow::Result<&'a Record> {
    records
        .iter()
        .find(|record| record.reference == reference)
        .with_context(|| format!("the example {reference}"))
}

/// The first complaint of a party, for a story of its own.
fn first_of<'a>(records: &'a [Record], party: &str, skip: usize) -> anyhow::Result<&'a Record> {
    records
        .iter()
        .filter(|record| record.party.as_deref() == Some(party))
        .nth(skip)
        .with_context(|| format!("an example of {party}"))
}

fn filing(record: &Record, handling: v1::Handling, to: &str) -> anyhow::Result<v1::NewComplaint> {
    let mut new = record.complaint()?;
    new.reference = format!("{}-demo", record.reference);
    new.handling = handling as i32;
    new.addressed_to = to.to_owned();
    Ok(new)
}

fn started(unit: &str) -> Body {
    Body::HandlingStarted(v1::HandlingStarted {
        unit: unit.to_owned(),
    })
}

fn responded() -> Body {
    Body::Responded(v1::Responded {
        attachments: Vec::new(),
    })
}

fn replied() -> Body {
    Body::ReporterReplied(v1::ReporterReplied {
        attachments: Vec::new(),
    })
}

fn closed() -> Body {
    Body::Closed(v1::Closed {})
}

fn rated(stars: u32) -> Body {
    Body::Rated(v1::Rated { stars })
}

/// The usual case of a city channel: it handles what it receives itself.
pub(super) async fn own_matter(
    cast: &mut Cast,
    records: &[Record],
    teller: &mut Teller,
) -> anyhow::Result<()> {
    teller.chapter("The city handles its own complaint (penanganan sendiri)");
    let record = record(records, "LH-2018-000412")?;
    let city = &mut cast.city;
    let decision = city.file(filing(record, v1::Handling::Own, "")?).await?;
    let id = decision.tracking_id;
    teller.step(CITY, &format!("files \"{}\"", record.title));
    teller.step(
        "pusat",
        &format!("accepts it: Tracking ID {id}, owner {}", decision.handler),
    );
    city.say(&id, "", started("DPU")).await?;
    city.say(&id, "Jalan sudah ditambal dan dicor.", responded())
        .await?;
    city.say(&id, "Terima kasih, jalannya sudah bagus.", replied())
        .await?;
    city.say(&id, "", closed()).await?;
    let last = city.say(&id, "", rated(5)).await?;
    teller.good(&format!(
        "started, answered (tanggapan), reporter replied, closed (selesai), rated 5: revision {}",
        last.revision
    ));
    Ok(())
}

/// Bukan wewenang: the city is not competent and says who is.
pub(super) async fn declined(
    cast: &mut Cast,
    records: &[Record],
    teller: &mut Teller,
) -> anyhow::Result<()> {
    teller.chapter("The city declines (bukan wewenang); the right owner gets it");
    let record = first_of(records, PROVINCE, 0)?;
    let filed = cast
        .province
        .file(filing(record, v1::Handling::Addressed, CITY)?)
        .await?;
    let id = filed.tracking_id;
    teller.step(
        PROVINCE,
        &format!("files \"{}\" to {CITY}: {id}", record.title),
    );
    cast.city.sees(&id, 1).await?;
    let body = Body::Declined(v1::Declined {
        suggested_institution: PROVINCE.to_owned(),
    });
    let decision = cast.city.say(&id, "Kewenangan provinsi.", body).await?;
    teller.step(
        CITY,
        &format!(
            "declines and suggests {PROVINCE}; owner now: {}",
            decision.handler
        ),
    );
    anyhow::ensure!(
        decision.handler == PROVINCE,
        "it went to {:?}",
        decision.handler
    );
    let seen = cast.province.sees(&id, decision.revision).await?;
    let province = &mut cast.province;
    province.say(&id, "", started("Dinas LHK")).await?;
    province
        .say(
            &id,
            "Izin diperiksa; pabrik diberi teguran tertulis.",
            responded(),
        )
        .await?;
    province
        .say(&id, "Baik, kami tunggu hasilnya.", replied())
        .await?;
    province.say(&id, "", closed()).await?;
    let last = province.say(&id, "", rated(4)).await?;
    teller.good(&format!(
        "{} heard of it at revision {}; answered, closed, rated 4: revision {}",
        PROVINCE, seen.revision, last.revision
    ));
    Ok(())
}

/// Nobody addressed: the national desk (meja Admin Nasional) decides.
pub(super) async fn triage(
    cast: &mut Cast,
    records: &[Record],
    teller: &mut Teller,
) -> anyhow::Result<()> {
    teller.chapter("Nobody is addressed: national triage (meja Admin Nasional)");
    let record = first_of(records, PROVINCE, 1)?;
    let mut new = filing(record, v1::Handling::Route, "")?;
    // Without a region no rule fits.
    new.region = String::new();
    let filed = cast.province.file(new).await?;
    let id = filed.tracking_id;
    anyhow::ensure!(
        filed.handler.is_empty(),
        "it has the owner {:?}",
        filed.handler
    );
    teller.step(
        PROVINCE,
        &format!(
            "files \"{}\" with no address and no region: {id}",
            record.title
        ),
    );
    cast.nation.sees(&id, 1).await?;
    let nation = &mut cast.nation;
    nation.say(&id, "", Body::Verified(v1::Verified {})).await?;
    let body = Body::Forwarded(v1::Forwarded {
        institution: CITY.to_owned(),
        unit: "Dinas Perhubungan".to_owned(),
    });
    let forwarded = nation.say(&id, "Mohon ditindaklanjuti.", body).await?;
    teller.step(
        NATIONAL,
        &format!(
            "verifies and forwards it (disposisi) to {}",
            forwarded.handler
        ),
    );
    let seen = cast.city.sees(&id, forwarded.revision).await?;
    teller.step(
        CITY,
        &format!(
            "begins to take part and gets all {} revisions that it has not had, in order",
            seen.history.len()
        ),
    );
    cast.city.say(&id, "", started("")).await?;
    let answered = cast
        .city
        .say(&id, "Sudah dijadwalkan minggu ini.", responded())
        .await?;
    cast.province.sees(&id, answered.revision).await?;
    let reply = cast.province.say(&id, "Terima kasih.", replied()).await?;
    cast.city.sees(&id, reply.revision).await?;
    let closing = cast.city.say(&id, "", closed()).await?;
    cast.province.sees(&id, closing.revision).await?;
    let last = cast.province.say(&id, "", rated(5)).await?;
    teller.good(&format!(
        "answered, replied, closed, rated 5: revision {}",
        last.revision
    ));
    Ok(())
}

/// From the national application down to the city.
pub(super) async fn from_above(
    cast: &mut Cast,
    records: &[Record],
    teller: &mut Teller,
) -> anyhow::Result<()> {
    teller.chapter("The national application sends one down to the city");
    let record = record(records, "SP4N-2019-001877")?;
    let filed = cast
        .nation
        .file(filing(record, v1::Handling::Addressed, CITY)?)
        .await?;
    let id = filed.tracking_id;
    teller.step(
        NATIONAL,
        &format!("files \"{}\" to {CITY}: {id}", record.title),
    );
    cast.city.sees(&id, 1).await?;
    cast.city
        .say(&id, "", Body::Verified(v1::Verified {}))
        .await?;
    cast.city.say(&id, "", started("DPU")).await?;
    let body = Body::ProgressReported(v1::ProgressReported {
        attachments: Vec::new(),
    });
    cast.city
        .say(&id, "Tim sudah meninjau lokasi.", body)
        .await?;
    let answered = cast
        .city
        .say(&id, "Perbaikan selesai.", responded())
        .await?;
    cast.nation.sees(&id, answered.revision).await?;
    let reply = cast
        .nation
        .say(&id, "Sudah saya lihat, bagus.", replied())
        .await?;
    cast.city.sees(&id, reply.revision).await?;
    let closing = cast.city.say(&id, "", closed()).await?;
    cast.nation.sees(&id, closing.revision).await?;
    let last = cast.nation.say(&id, "", rated(5)).await?;
    teller.good(&format!(
        "verified, worked on (tindak lanjut), answered, replied, closed, rated 5: revision {}",
        last.revision
    ));
    Ok(())
}

/// A retry is recognised, and so is a mistake.
pub(super) async fn again(
    cast: &mut Cast,
    records: &[Record],
    teller: &mut Teller,
) -> anyhow::Result<()> {
    teller.chapter("One is sent again, then one with other content: the door knows both");
    let record = record(records, "LH-2018-000412")?;
    let new = filing(record, v1::Handling::Own, "")?;
    let submit = |complaint: v1::NewComplaint| v1::SubmitRequest {
        handover: Some(v1::Handover {
            item: Some(v1::handover::Item::Complaint(complaint)),
            ..v1::Handover::default()
        }),
        wait_for_hub_ms: 0,
    };
    let answer = cast.city.gateway.submit(submit(new.clone())).await?;
    let receipt = answer.into_inner().receipt.context("no receipt")?;
    anyhow::ensure!(
        receipt.repeated_handover,
        "the repetition was not recognised"
    );
    let decision = receipt.decision.context("no original result")?;
    teller.good(&format!(
        "the same again: answered with the original result (sudah ada), {}",
        decision.tracking_id
    ));
    let mut other = new;
    other.body.push_str(" (diubah)");
    match cast.city.gateway.submit(submit(other)).await {
        Ok(_) => anyhow::bail!("other content under a known reference was taken"),
        Err(status) => {
            anyhow::ensure!(
                status.code() == tonic::Code::AlreadyExists,
                "it was refused as {status}"
            );
            teller.good(&format!(
                "other content under the same reference: {}",
                shortened(status.message())
            ));
        }
    }
    Ok(())
}

/// A text whose digests are cut to what people compare.
fn shortened(text: &str) -> String {
    let words = text.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    words.fold(String::new(), |mut short, word| {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        if digits.len() == 64 {
            short.push_str(&digits[..12]);
            short.push('…');
            short.push_str(&word[digits.len()..]);
        } else {
            short.push_str(word);
        }
        short
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a refusal that names two digests.
    /// Guarantee: both are cut as the other chapters cut them; the words stay.
    #[test]
    fn digests_are_shortened() {
        let text = format!(
            "known (stored {}, refused {}); añ",
            "ab".repeat(32),
            "0f".repeat(32)
        );
        assert_eq!(
            shortened(&text),
            "known (stored abababababab…, refused 0f0f0f0f0f0f…); añ"
        );
    }
}

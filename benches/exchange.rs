//! What one event costs where no disk and no line is involved: hand-over to
//! event, chain, frame out and in, decision. `cargo bench`.
#![allow(missing_docs, reason = "criterion's macros write functions without")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jembatan::{
    domain::{
        Context, Directory, Handling, Handover, Item, Limits, Micros, NewComplaint, PartyId,
        Policy, Reference, Reporter, SystemName, decide,
    },
    exchange::{Direction, Entries, Entry, Frame, Place, Receiver, extend},
    wire::{self, Composing},
};

/// Entries of a frame.
const PER_FRAME: u64 = 64;

fn party() -> PartyId {
    PartyId::parse("pemda-33.74").expect("a party id")
}

fn handover(number: u64) -> Handover {
    let words = "jalan rusak di depan pasar, mohon segera diperbaiki. ";
    let reference = Reference::parse(&format!("B-{number:010}")).expect("a reference");
    let mut complaint = NewComplaint::new(reference);
    complaint.title = "Jalan rusak di depan pasar".to_owned();
    complaint.body = words.chars().cycle().take(700).collect();
    complaint.handling = Handling::Own;
    complaint.reporter = Reporter {
        name: "Pelapor Uji 900".to_owned(),
        ..Reporter::default()
    };
    Handover {
        system: SystemName::parse("lapor-semar").expect("a system"),
        key: None,
        item: Item::Complaint(Box::new(complaint)),
    }
}

fn composed(number: u64) -> wire::Composed {
    let party = party();
    let composing = Composing {
        party: &party,
        now: Micros(1_790_000_000_000_000),
        time_zone: "Asia/Jakarta",
        complaint_id: None,
    };
    wire::compose(handover(number), composing, || [7; 16]).expect("a good hand-over")
}

fn entry(number: u64) -> Entry {
    let composed = composed(number);
    Entry {
        header: Bytes::new(),
        event: composed.event_bytes,
        parts: composed.parts,
        handover_digest: Some(handover(number).digest()),
    }
}

fn frame() -> Entries {
    let root = Place::root(&party(), Direction::Submissions, 1);
    Entries {
        direction: Direction::Submissions,
        epoch: 1,
        first_position: 1,
        previous_chain: root.chain,
        entries: (0..PER_FRAME).map(entry).collect(),
        copy: false,
    }
}

fn handing_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hand-over");
    group.throughput(Throughput::Elements(1));
    let given = handover(1);
    group.bench_function("digest of the fields", |bencher| {
        bencher.iter(|| black_box(&given).digest());
    });
    group.bench_function("event and parts", |bencher| {
        bencher.iter(|| composed(black_box(1)));
    });
    group.finish();
}

fn exchanging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame of 64");
    group.throughput(Throughput::Elements(PER_FRAME));
    let frame = frame();
    let root = Place::root(&party(), Direction::Submissions, 1);
    group.bench_function("chain", |bencher| {
        bencher.iter(|| extend(root, Direction::Submissions, black_box(&frame.entries)));
    });
    let receiver = Receiver::new(Direction::Submissions, 1, root, &Limits::default());
    group.bench_function("receive check", |bencher| {
        bencher.iter(|| receiver.check(black_box(&frame)).expect("it continues"));
    });
    group.bench_function("to and from the contract", |bencher| {
        bencher.iter_batched(
            || Frame::Entries(frame.clone()),
            |frame| wire::frame_from_proto(wire::frame_to_proto(frame)).expect("a frame"),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn deciding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub");
    group.throughput(Throughput::Elements(1));
    let bytes = composed(1).event_bytes;
    group.bench_function("decode an event", |bencher| {
        bencher.iter(|| wire::decode_event(black_box(&bytes)).expect("an event"));
    });
    let event = composed(1).event;
    let (directory, policy) = (Directory::default(), Policy::default());
    group.bench_function("decide a filing", |bencher| {
        let context = || Context {
            directory: &directory,
            policy: &policy,
            merge_target: None,
        };
        bencher.iter(|| decide(None, black_box(&event), context()));
    });
    group.finish();
}

criterion_group!(benches, handing_over, exchanging, deciding);
criterion_main!(benches);

//! Puts the figures side by side, and the ratios beside what they must reach.

use serde::Serialize;

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) figures: Vec<Figure>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) notes: Vec<String>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) postgresql: String,
    /// Of the minute before the run: figures of a busy machine say little.
    pub(crate) load_before: String,
}

/// One thing that was measured: the median of the rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_micros: Option<CpuMicros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_micros: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_micros: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errors: Option<u64>,
}

/// Processor time of one answer.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CpuMicros {
    pub(crate) service: f64,
    pub(crate) database: f64,
}

impl CpuMicros {
    pub(crate) fn total(self) -> f64 {
        self.service + self.database
    }
}

/// Two figures of one run, compared.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) what: &'static str,
    pub(crate) bound: Bound,
    pub(crate) must: f64,
    pub(crate) aim: f64,
    /// `None`: not measured in this run.
    pub(crate) measured: Option<f64>,
    pub(crate) verdict: &'static str,
}

/// On which side of its bound a ratio must lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast,
    AtMost,
}

impl Ratio {
    pub(crate) fn new(what: &'static str, bound: Bound, must: f64, aim: f64, measured: Option<f64>) -> Self {
        let within = |limit: f64| {
            measured.is_some_and(|measured| match bound {
                Bound::AtLeast => measured >= limit,
                Bound::AtMost => measured <= limit,
            })
        };
        let verdict = match measured {
            None => "not measured",
            Some(_) if within(aim) => "PASS (aim)",
            Some(_) if within(must) => "PASS",
            Some(_) => "MISS",
        };
        Self { what, bound, must, aim, measured, verdict }
    }
}

/// The middle of what the rounds measured.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Figure {
    /// The median of the same thing in several rounds; errors add up.
    pub(crate) fn of_rounds(rounds: &[Self]) -> Self {
        let middle = |value: &dyn Fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = rounds.iter().filter_map(value).collect();
            (!values.is_empty()).then(|| median(values))
        };
        let service = middle(&|figure| figure.cpu_micros.map(|cpu| cpu.service));
        let database = middle(&|figure| figure.cpu_micros.map(|cpu| cpu.database));
        Self {
            what: rounds.first().map(|figure| figure.what.clone()).unwrap_or_default(),
            per_second: middle(&|figure| Some(figure.per_second)).unwrap_or_default(),
            cpu_micros: service.zip(database).map(|(service, database)| CpuMicros { service, database }),
            p50_micros: middle(&|figure| figure.p50_micros),
            p99_micros: middle(&|figure| figure.p99_micros),
            errors: rounds.iter().filter_map(|figure| figure.errors).reduce(|all, more| all + more),
        }
    }
}

impl Report {
    /// For people.
    #[expect(clippy::print_stdout, reason = "the report is what a bench is for")]
    pub(crate) fn print(&self) {
        let Machine { processor, cores, postgresql, load_before } = &self.machine;
        println!(
            "{processor}, {cores} cores; PostgreSQL {postgresql}, durable; load before: {load_before}\n"
        );
        let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header([
            "",
            "per second",
            "CPU µs service",
            "CPU µs database",
            "p50 µs",
            "p99 µs",
            "errors",
        ]);
        for figure in &self.figures {
            table.add_row([
                figure.what.clone(),
                format!("{:.0}", figure.per_second),
                shown(figure.cpu_micros.map(|cpu| cpu.service)),
                shown(figure.cpu_micros.map(|cpu| cpu.database)),
                shown(figure.p50_micros),
                shown(figure.p99_micros),
                figure.errors.map_or_else(|| "–".to_owned(), |errors| errors.to_string()),
            ]);
        }
        right_align(&mut table, 1..7);
        println!("{table}\n");
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["ratio", "must", "aim", "measured", ""]);
        for ratio in &self.ratios {
            let sign = if ratio.bound == Bound::AtLeast { "≥" } else { "≤" };
            table.add_row([
                ratio.what.to_owned(),
                format!("{sign} {}", ratio.must),
                format!("{sign} {}", ratio.aim),
                ratio.measured.map_or_else(|| "–".to_owned(), |measured| format!("{measured:.2}")),
                ratio.verdict.to_owned(),
            ]);
        }
        right_align(&mut table, 1..4);
        println!("{table}");
        for note in &self.notes {
            println!("\n{note}");
        }
    }

    /// For programs: one document.
    #[expect(clippy::print_stdout, reason = "the report is what a bench is for")]
    pub(crate) fn print_json(&self) -> serde_json::Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}

fn right_align(table: &mut comfy_table::Table, columns: std::ops::Range<usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
}

//! Made-up queries with every kind of feature: whole, with gaps, mostly zero, heavy-tailed, categories.

use millrace_ranker::{Query, TrainingSet};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal, StandardUniform};

pub const FEATURES: usize = 30;
/// The last three features.
pub const CATEGORICAL: [&str; 3] = ["kind", "country", "author"];

/// Queries of equally many rows.
pub struct Queries {
    pub rows: Vec<f32>,
    pub grades: Vec<u8>,
    pub positions: Vec<u32>,
    rows_each: usize,
}

/// Feature names; those of the first ten have no missing values.
pub fn feature_names() -> Vec<String> {
    let names = (0..FEATURES - 3).map(|feature| match feature {
        0..10 => format!("whole_{feature}"),
        10..16 => format!("gaps_{feature}"),
        16..22 => format!("count_{feature}"),
        _ => format!("heavy_{feature}"),
    });
    names.chain(CATEGORICAL.map(str::to_owned)).collect()
}

impl Queries {
    pub fn new(seed: u64, queries: usize, rows_each: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut made = Self {
            rows: Vec::new(),
            grades: Vec::new(),
            positions: Vec::new(),
            rows_each,
        };
        for _ in 0..queries {
            for position in 0..rows_each {
                let row = row(&mut rng);
                made.grades.push(grade(&row, &mut rng));
                made.rows.extend(row);
                made.positions.push(position as u32);
            }
        }
        made
    }

    pub fn training_set(&self, with_positions: bool) -> TrainingSet {
        let names = feature_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut set = TrainingSet::new(&names, &CATEGORICAL).unwrap();
        for first in (0..self.grades.len()).step_by(self.rows_each) {
            let end = first + self.rows_each;
            set.push(&Query {
                rows: &self.rows[first * FEATURES..end * FEATURES],
                grades: &self.grades[first..end],
                positions: with_positions.then_some(&self.positions[first..end]),
                weights: None,
            })
            .unwrap();
        }
        set
    }
}

fn row(rng: &mut ChaCha8Rng) -> [f32; FEATURES] {
    std::array::from_fn(|feature| {
        let normal: f32 = StandardNormal.sample(rng);
        let luck: f32 = StandardUniform.sample(rng);
        let category = |count: f32| (luck * luck * count).floor();
        match feature {
            0..10 => normal,
            10..16 if luck < 0.3 => f32::NAN,
            10..16 => normal,
            16..22 if luck < 0.6 => 0.0,
            16..22 => (normal.abs() * 5.0).floor(),
            22..27 if luck < 0.05 => f32::NAN,
            22..27 => (normal * 2.0).exp(),
            27 => category(4.0),
            28 if normal < -1.3 => f32::NAN,
            28 => category(40.0),
            _ => category(300.0),
        }
    })
}

fn grade(row: &[f32; FEATURES], rng: &mut ChaCha8Rng) -> u8 {
    let noise: f32 = StandardNormal.sample(rng);
    let gap = if row[10].is_nan() { 0.7 } else { row[10] };
    let country = if row[28] % 3.0 == 1.0 { 1.0 } else { 0.0 };
    let value = row[0] + row[1] * row[2] + gap - 0.2 * row[16] + country + 0.3 * row[27] + noise;
    (value * 0.8).clamp(0.0, 4.0) as u8
}

//! Items with what the user made of them: enough to sum vectors anew in another space.

use serde::{Deserialize, Serialize};

use super::evidence::Addition;
use super::sums::{add, scale};

/// Below, an item is forgotten.
const FORGOTTEN: f32 = 1e-4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WeightedItem {
    pub(super) item_id: String,
    /// Interest shown in it.
    pub(super) weight: f32,
    pub(super) residual: f32,
}

/// Sorted by id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Items(Vec<WeightedItem>);

impl Items {
    pub(super) fn add(&mut self, item_id: &str, addition: Addition, most: usize) {
        if addition.interest == 0.0 && addition.residual == 0.0 {
            return;
        }
        let at = match self
            .0
            .binary_search_by(|item| item.item_id.as_str().cmp(item_id))
        {
            Ok(at) => at,
            Err(at) => {
                let item = WeightedItem {
                    item_id: item_id.to_owned(),
                    weight: 0.0,
                    residual: 0.0,
                };
                self.0.insert(at, item);
                at
            }
        };
        add(&mut self.0[at].weight, addition.interest);
        add(&mut self.0[at].residual, addition.residual);
        while self.0.len() > most {
            // An item that was only passed over goes before one that was of interest.
            let sizes = self
                .0
                .iter()
                .enumerate()
                .map(|(at, item)| (item.sizes(), at));
            let by_size = |a: &((f32, f32), usize), b: &((f32, f32), usize)| {
                let ((weight, residual), (other_weight, other_residual)) = (a.0, b.0);
                weight
                    .total_cmp(&other_weight)
                    .then(residual.total_cmp(&other_residual))
            };
            let Some((_, at)) = sizes.min_by(by_size) else {
                return;
            };
            self.0.remove(at);
        }
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.0.retain_mut(|item| {
            scale(&mut item.weight, factor);
            scale(&mut item.residual, factor);
            let (weight, residual) = item.sizes();
            weight + residual >= FORGOTTEN
        });
    }

    /// By id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &WeightedItem> {
        self.0.iter()
    }

    pub(super) fn heaviest(&self) -> Vec<(&str, f64)> {
        let of_interest = self.0.iter().filter(|item| item.weight > 0.0);
        let weighed = of_interest.map(|item| (item.item_id.as_str(), f64::from(item.weight)));
        let mut items: Vec<(&str, f64)> = weighed.collect();
        items.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        items
    }
}

impl WeightedItem {
    fn sizes(&self) -> (f32, f32) {
        (self.weight.abs(), self.residual.abs())
    }
}

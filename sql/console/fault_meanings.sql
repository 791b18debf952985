-- purpose: what faults mean and what to do about them
SELECT codes.fault_class, codes.fault_code, codes.fault_case, codes.meaning, codes.action FROM fault_codes AS codes

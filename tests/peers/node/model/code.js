// Referral codes: how they are drawn, and the canonical form in which they are looked up.
import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

export const drawn = () => Array.from(randomBytes(8), (byte) => ALPHABET[byte & 31]).join('');

export const canonical = (code) => code.toUpperCase().replaceAll('-', '').replaceAll('O', '0').replaceAll(/[IL]/g, '1');
